-- The canonical row with its ids, scores, roles and models.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select * from dataset
