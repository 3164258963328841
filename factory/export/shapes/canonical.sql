-- Only prompt, chosen, and rejected, each as a list of messages.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select prompt, chosen, rejected from dataset
