-- All columns of the dataset: prompt, chosen, and rejected, with IDs, scores, roles, and models.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select * from dataset
