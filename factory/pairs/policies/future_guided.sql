-- Future-guided chosen answers: Temporal Self-Rewarding (arXiv 2508.06026) without a past model.
-- The paper has no such ablation.
-- Roles: current, future
-- Grain: one row per prompt and place, with the pair that the policy considers.
-- Chosen: the best future answer if it beats the best current one, else the best current one.
-- Rejected: the worst current answer.
-- In phase D1 there is no future model yet, so the policy equals self_rewarding.
-- Reads: extremes
select
    prompt_id,
    if(best_future.score > best_current.score, best_future, best_current).id as chosen_id,
    worst_current.id as rejected_id
from extremes
