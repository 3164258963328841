-- The canonical row, and nothing beside it.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select prompt, chosen, rejected from dataset
