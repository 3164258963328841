-- Self-Rewarding (arXiv 2401.10020): both sides from the current model.
-- Roles: current
-- Grain: one row per prompt and place: the pair that is considered there.
-- Chosen: the best current answer. Rejected: the worst.
-- Reads: extremes
select prompt_id, best_current.id as chosen_id, worst_current.id as rejected_id
from extremes
