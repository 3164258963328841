-- How many considered pairs were kept, and why were the others dropped? The query counts the
-- outcomes in `pairs`. `share` is relative to all considered pairs of the iteration and phase, and
-- `train` and `test` are the counts in each split.
-- Grain: one row per iteration, phase, and outcome.
-- Reads: pairs
select
    iteration,
    phase,
    outcome,
    count(*) as considered,
    round(count(*) / sum(count(*)) over (partition by iteration, phase), 3) as share,
    count(*) filter (split = 'train') as train,
    count(*) filter (split = 'test') as test
from pairs
group by iteration, phase, outcome
order by iteration, phase, considered desc, outcome
