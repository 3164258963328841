-- Grain: one row a judgment: (judge, sample, draw).
-- Where the judge was shown a reference or criteria that are no longer the prompt's, the judgment is
-- left out.
with first_made as (
    from made_once(
        'judgments_shards',
        (judge, request_id, draw),
        error_kind is not distinct from 'transient'
    )
),

judges as (select distinct judge, judge_reads from roles),

contexts as (
    select
        judges.judge,
        samples.sample_id,
        if(judges.judge_reads = 'meta', prompts.context_with_meta, prompts.context) as context
    from samples
    join prompts using (prompt_id), judges
),

without_context as (select * from first_made where context = ''),

in_context as (
    select * from first_made semi join contexts using (judge, sample_id, context) where context != ''
)

select * from without_context
union all
select * from in_context
