-- Temporal Self-Rewarding (arXiv 2508.06026): the rejected side from the past, the chosen side
-- from the future.
-- Roles: past, current, future
-- Grain: one row per prompt and place: the pair that is considered there.
-- Chosen: the best future answer if it beats the best current one, else the best current one.
-- Rejected: the worst past answer if it is worse than the worst current one, else the worst
-- current one. Before there is a future model (phase D1) there are no future candidates, and this
-- is anchored rejection.
-- Reads: extremes
select
    prompt_id,
    if(best_future.score > best_current.score, best_future, best_current).id as chosen_id,
    if(worst_past.score < worst_current.score, worst_past, worst_current).id as rejected_id
from extremes
