-- The future side alone of Temporal Self-Rewarding (arXiv 2508.06026, its ablation).
-- Roles: current, future
-- Grain: one row per prompt and place: the pair that is considered there.
-- Chosen: the best future answer if it beats the best current one, else the best current one.
-- Rejected: the worst current answer. Before there is a future model (phase D1) this is
-- self-rewarding.
-- Reads: extremes
select
    prompt_id,
    if(best_future.score > best_current.score, best_future, best_current).id as chosen_id,
    worst_current.id as rejected_id
from extremes
