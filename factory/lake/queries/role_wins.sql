-- How often do the future and the past model beat the current model? The future model wins a prompt
-- if its best answer scores higher than the current model's best answer. The past model provides
-- rejected answers, so it wins if its worst answer scores lower than the current model's worst
-- answer. Scores are `pair_score` in `candidates`, and `mean_difference` is the role's score minus
-- the current model's. `kept` counts the kept pairs in `final_pairs`. `kept_from_role` counts the
-- pairs whose chosen side (future) or rejected side (past) comes from the role.
-- Grain: one row per iteration and role, over prompts with a score in both roles.
-- Reads: candidates, final_pairs
with compared as (
    select
        iteration,
        'future' as role,
        max(pair_score) filter (role = 'future') - max(pair_score) filter (role = 'current')
            as difference,
        difference as advantage
    from candidates
    where role in ('future', 'current')
    group by iteration, prompt_id
    union all
    select
        iteration,
        'past' as role,
        min(pair_score) filter (role = 'past') - min(pair_score) filter (role = 'current')
            as difference,
        -difference as advantage
    from candidates
    where role in ('past', 'current')
    group by iteration, prompt_id
),

kept_pairs as (
    select iteration, chosen_role, rejected_role
    from final_pairs
    where outcome = 'kept'
),

kept_by_role as (
    select
        iteration,
        unnest(['future', 'past']) as role,
        count(*) as kept,
        unnest(
            [
                count(*) filter (chosen_role = 'future'),
                count(*) filter (rejected_role = 'past')
            ]
        ) as kept_from_role
    from kept_pairs
    group by iteration
)

select
    iteration,
    role,
    count(*) as prompts,
    count(*) filter (advantage > 0) as wins,
    count(*) filter (advantage = 0) as ties,
    count(*) filter (advantage < 0) as losses,
    round(count(*) filter (advantage > 0) / count(*), 3) as win_share,
    round(avg(difference), 3) as mean_difference,
    any_value(kept) as kept,
    any_value(kept_from_role) as kept_from_role
from compared
left join kept_by_role using (iteration, role)
where difference is not null
group by iteration, role
order by iteration, role
