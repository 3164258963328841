-- The canonical row with the difference of the scores, which a reward model's loss can use.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select prompt, chosen, rejected, margin from dataset
