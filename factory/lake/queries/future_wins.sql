-- How often the future model's best answer beats the current one's: best scores of each prompt in
-- `candidates`, their mean difference (future less current), and how many kept D2 pairs of `pairs`
-- have a future chosen side.
-- Grain: one row per iteration; prompts are those with a score in both roles.
-- Reads: candidates, pairs
with best as (
    select
        iteration,
        prompt_id,
        max(score) filter (role = 'future') - max(score) filter (role = 'current') as difference
    from candidates
    where role in ('future', 'current')
    group by iteration, prompt_id
),

published as (
    select
        iteration,
        count(*) filter (outcome = 'kept') as kept,
        count(*) filter (outcome = 'kept' and chosen_role = 'future') as kept_from_future
    from pairs
    where phase = 'D2'
    group by iteration
)

select
    iteration,
    count(*) as prompts,
    count(*) filter (difference > 0) as wins,
    count(*) filter (difference = 0) as ties,
    count(*) filter (difference < 0) as losses,
    round(count(*) filter (difference > 0) / count(*), 3) as win_share,
    round(avg(difference), 3) as mean_difference,
    any_value(kept) as kept,
    any_value(kept_from_future) as kept_from_future
from best
left join published using (iteration)
where difference is not null
group by iteration
order by iteration
