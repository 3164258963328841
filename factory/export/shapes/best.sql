-- The best answer of each prompt.
-- Grain: one row per prompt and iteration of `dataset`.
-- Reads: dataset
select prompt, completion from dataset
