-- The best answer of each prompt.
-- Grain: one row a prompt and iteration of `dataset`.
select prompt, completion from dataset
