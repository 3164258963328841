-- The conversation with the chosen answer, and the text of the rejected answer.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select prompt || chosen as messages, rejected[1].content as rejected_response from dataset
