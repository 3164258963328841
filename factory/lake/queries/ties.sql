-- At which scores do the best and the worst answer of a prompt tie, so that the prompt yields no
-- pair? The query counts the pairs with outcome `tie` in `pairs`. `share` is relative to all
-- considered pairs. Many ties at the top of the scale mean that the judge is too lenient.
-- Grain: one row per iteration, phase, and tied score.
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
