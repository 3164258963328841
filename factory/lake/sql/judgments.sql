-- Grain: one row per judgment: (judge, sample, draw).
-- A judgment is left out if the prompt's reference or criteria have changed since then, or if the
-- judgment compares the sample with an answer that is not a rival (see rivals.sql).
-- Reads: judgments_shards, panel, prompts, rivals, samples
with each_once as (
    select * rename (judge as judge_key)
    from made_once(
        'judgments_shards',
        (judge, request_id, draw),
        error_kind is not distinct from 'transient'
    )
),

first_made as (
    select * from each_once where other_id is null
    union all
    select *
    from each_once
    semi join rivals using (judge_key, other_id)
    where other_id is not null
),

judges as (select distinct judge_key, judge_reads from panel),

contexts as (
    select
        judges.judge_key,
        samples.sample_id,
        if(judges.judge_reads = 'meta', prompts.context_with_meta, prompts.context) as context
    from samples
    join prompts using (prompt_id), judges
),

without_context as (select * from first_made where context = ''),

in_context as (
    select *
    from first_made
    semi join contexts using (judge_key, sample_id, context)
    where context != ''
)

select * from without_context
union all
select * from in_context
