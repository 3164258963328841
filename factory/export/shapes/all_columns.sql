-- The canonical row with its ids, scores, roles and models.
-- Grain: one row a pair of `dataset`.
select * from dataset
