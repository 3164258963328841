-- The best answer to each prompt.
-- Grain: one row per prompt and iteration of `dataset`.
-- Reads: dataset
select prompt, completion from dataset
