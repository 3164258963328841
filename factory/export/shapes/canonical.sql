-- The canonical row, and nothing beside it.
-- Grain: one row a pair of `dataset`.
select prompt, chosen, rejected from dataset
