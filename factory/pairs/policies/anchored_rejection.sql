-- Anchored rejection: the ablation of Temporal Self-Rewarding without a future model
-- (arXiv 2508.06026).
-- Roles: past, current
-- Grain: one row per prompt and place, with the pair that the policy considers.
-- Chosen: the best current answer. Rejected: the worst past answer if it is worse than the worst
-- current one, else the worst current one.
-- Reads: extremes
select
    prompt_id,
    best_current.id as chosen_id,
    if(worst_past.score < worst_current.score, worst_past, worst_current).id as rejected_id
from extremes
