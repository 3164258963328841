-- At which scores the best and the worst answer of a prompt are tied, so that it gives no pair: the
-- pairs in `pairs` with outcome tie; share is of all considered. Ties at the top of the scale are a
-- judge that is easily content.
-- Grain: one row per iteration, phase and tied score.
-- Reads: pairs
with considered as (
    select *, count(*) over (partition by iteration, phase) as n_considered
    from pairs
)

select
    iteration,
    phase,
    round(score_chosen, 3) as score,
    count(*) as ties,
    round(count(*) / any_value(n_considered), 3) as share
from considered
where outcome = 'tie'
group by iteration, phase, round(score_chosen, 3)
order by iteration, phase, ties desc, score
