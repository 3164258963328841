-- What came of the pairs that the policy considered: kept, or why not, counted in `pairs`, and its
-- share of the iteration and phase.
-- Grain: one row per iteration, phase and outcome; train and test are the prompts' splits.
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
