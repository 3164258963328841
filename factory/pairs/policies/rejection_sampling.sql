-- Rejection sampling: the next model is trained by SFT on the best of the K current answers, as in
-- RAFT (arXiv 2304.06767).
-- Roles: current
-- Trains: sft
-- Grain: one row per prompt and place, with the answer that the policy considers.
-- Chosen: the best current answer. Rejected: none.
-- An answer is kept if it has a score, however low. Settings of `pairs` that compare two sides do
-- not apply.
-- Reads: extremes
select prompt_id, best_current.id as chosen_id, null::varchar as rejected_id
from extremes
