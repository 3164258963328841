-- How often the past model's worst answer is below the current one's: worst scores of each prompt
-- in `candidates`, their mean difference (past less current), and how many kept D2 pairs of `pairs`
-- have a past rejected side.
-- Grain: one row per iteration; prompts are those with a score in both roles.
-- Reads: candidates, pairs
with worst as (
    select
        iteration,
        prompt_id,
        min(score) filter (role = 'past') - min(score) filter (role = 'current') as difference
    from candidates
    where role in ('past', 'current')
    group by iteration, prompt_id
),

published as (
    select
        iteration,
        count(*) filter (outcome = 'kept') as kept,
        count(*) filter (outcome = 'kept' and rejected_role = 'past') as kept_from_past
    from pairs
    where phase = 'D2'
    group by iteration
)

select
    iteration,
    count(*) as prompts,
    count(*) filter (difference < 0) as lower,
    count(*) filter (difference = 0) as ties,
    count(*) filter (difference > 0) as higher,
    round(count(*) filter (difference < 0) / count(*), 3) as lower_share,
    round(avg(difference), 3) as mean_difference,
    any_value(kept) as kept,
    any_value(kept_from_past) as kept_from_past
from worst
left join published using (iteration)
where difference is not null
group by iteration
order by iteration
