-- Both sides as complete conversations, which start with the same prompt.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select prompt || chosen as chosen, prompt || rejected as rejected from dataset
