-- Grain: one row with the first faulty row that a policy returned, or no row if there is none.
-- A side may be missing only if a role has no eligible candidate for the prompt. Both sides may be
-- the same sample only if the scores of the current candidates are not all different. A policy that
-- trains by SFT has no rejected side.
-- Reads: eligible, measured, pair_settings, policy
with pool as (select prompt_id, list(sample_id) as ids from measured group by prompt_id),

choice as (
    select
        prompt_id,
        list(score) filter (role = 'current') as scores,
        count(distinct role) = (select count(distinct role) from measured)
        and bool_and(may_be_chosen and may_be_rejected) as is_full
    from eligible
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
        coalesce(choice.scores, []) as scores,
        coalesce(choice.is_full, false) as is_full
    from policy
    left join pool on pool.prompt_id = policy.prompt_id
    left join choice on choice.prompt_id = policy.prompt_id
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
            when is_full and chosen_id is null then 'no chosen_id'
            when trains = 'dpo' and is_full and rejected_id is null then 'no rejected_id'
            when trains = 'sft' and rejected_id is not null
                then 'rejected_id ' || rejected_id || ', and it trains by SFT, without that side'
            when is_full and chosen_id = rejected_id and length_control is null
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
