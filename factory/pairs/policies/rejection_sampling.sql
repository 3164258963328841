-- Rejection sampling: the best of the K current answers as demonstrations, on which the next model
-- is trained by SFT (as RAFT does, arXiv 2304.06767).
-- Roles: current
-- Trains: sft
-- Grain: one row per prompt and place: the answer that is considered there.
-- Chosen: the best current answer. Rejected: none. It is kept if it has a score, however low: what
-- pairs asks of two sides is not asked here.
-- Reads: extremes
select prompt_id, best_current.id as chosen_id, null::varchar as rejected_id
from extremes
