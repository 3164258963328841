-- All columns of the dataset: prompt, chosen, and rejected, with ids, scores, roles, and models.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select * from dataset
