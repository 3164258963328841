-- Temporal Self-Rewarding (arXiv 2508.06026): rejected answers from the past model, chosen answers
-- from the future model.
-- Roles: past, current, future
-- Grain: one row per prompt and place, with the pair that the policy considers.
-- Chosen: the best future answer if it beats the best current one, else the best current one.
-- Rejected: the worst past answer if it is worse than the worst current one, else the worst
-- current one.
-- In phase D1 there is no future model yet, so the policy equals anchored_rejection.
-- Reads: extremes
select
    prompt_id,
    if(best_future.score > best_current.score, best_future, best_current).id as chosen_id,
    if(worst_past.score < worst_current.score, worst_past, worst_current).id as rejected_id
from extremes
