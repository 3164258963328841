-- Both sides as whole conversations: the prompt is what they have in common.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select prompt || chosen as chosen, prompt || rejected as rejected from dataset
