-- The best answer to each prompt, and the columns of the table `prompts` for its chat template.
-- Grain: one row per prompt and iteration of `dataset`.
-- Reads: dataset
select prompt, completion, tools, template_kwargs from dataset
