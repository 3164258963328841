-- Self-Rewarding (arXiv 2401.10020): the current model provides both sides.
-- Roles: current
-- Grain: one row per prompt and place, with the pair that the policy considers.
-- Chosen: the best current answer. Rejected: the worst current answer.
-- Reads: extremes
select prompt_id, best_current.id as chosen_id, worst_current.id as rejected_id
from extremes
