-- Grain: one row per iteration and phase, with the score gap and the outcomes of the pairs. The gap
-- is the mean margin of the kept pairs, on the judge's scale. `filtered` counts the outcomes that
-- are due to a rule in the recipe's `pairs` or to an empty answer.
-- Reads: pairs
select
    iteration,
    phase,
    count(distinct prompt_id) as prompts,
    count(*) filter (outcome = 'kept') as kept,
    count(*) filter (outcome = 'tie') as ties,
    count(*) filter (outcome = 'identical') as identical,
    count(*) filter (outcome = 'unscored') as unscored,
    count(*) filter (outcome not in ('kept', 'tie', 'identical', 'unscored')) as filtered,
    round(avg(margin) filter (outcome = 'kept'), 3) as gap,
    round(avg(score_chosen) filter (outcome = 'kept'), 3) as score_chosen,
    round(avg(score_rejected) filter (outcome = 'kept'), 3) as score_rejected,
    count(*) filter (outcome = 'kept' and chosen_role = 'future') as chosen_from_future,
    count(*) filter (outcome = 'kept' and rejected_role = 'past') as rejected_from_past
from pairs
group by iteration, phase
order by iteration, phase
