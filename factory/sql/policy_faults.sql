-- Grain: one row a fault of what a policy returned, by prompt; none where all of it can be used.
-- A side may be missing or be the other side only where the prompt leaves no choice: no scored
-- current candidate, or none with another score.
with pool as (select prompt_id, list(sample_id) as ids from measured group by prompt_id),

eligible_current as (
    select prompt_id, list(score) as scores
    from eligible
    where role = 'current'
    group by prompt_id
),

returned as (
    select
        policy.*,
        count(*) over (partition by policy.prompt_id) as n_pairs,
        count(*) over (
            partition by policy.prompt_id, policy.chosen_id, policy.rejected_id
        ) as n_same,
        pool.ids,
        coalesce(eligible_current.scores, []) as scores
    from policy
    left join pool on pool.prompt_id = policy.prompt_id
    left join eligible_current on eligible_current.prompt_id = policy.prompt_id
),

faults as (
    select
        prompt_id,
        case
            when prompt_id is null then 'a row without a prompt_id'
            when ids is null then 'a prompt that has no candidates'
            when chosen_id is not null and not list_contains(ids, chosen_id)
                then 'chosen_id ' || chosen_id || ', which is no candidate of that prompt'
            when rejected_id is not null and not list_contains(ids, rejected_id)
                then 'rejected_id ' || rejected_id || ', which is no candidate of that prompt'
            when n_pairs > per_prompt
                then n_pairs || ' pairs, and pairs.per_prompt is ' || per_prompt
            when n_same > 1 then 'the same pair twice'
            when len(scores) > 0 and chosen_id is null then 'no chosen_id'
            when len(scores) > 0 and rejected_id is null then 'no rejected_id'
            when chosen_id = rejected_id and length_control is null
                and len(list_distinct(scores)) = len(scores) and len(scores) > 1
                then 'the same sample on both sides'
        end as fault
    from returned, pair_settings
)

select prompt_id, fault
from faults
where fault is not null
order by prompt_id nulls first
limit 1
