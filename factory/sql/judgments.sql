-- Grain: one row a judgment: (judge, sample, draw).
-- Made twice: as in samples.sql. Where the judge was shown a reference or criteria that are no
-- longer the prompt's, the judgment is left out; so is a comparison with a sample that is no rival.
with suspects as (
    select hash(judge, request_id, draw) as key
    from judgments_shards
    group by key
    having count(*) > 1
),

ranked as (
    select
        filename,
        file_row_number,
        row_number() over (
            partition by judge, request_id, draw
            order by error_kind is not distinct from 'transient', filename, file_row_number
        ) as place
    from judgments_shards
    where hash(judge, request_id, draw) in (select key from suspects)
),

superseded as (select filename, file_row_number from ranked where place > 1),

first_made as (
    select shards.*
    from judgments_shards as shards
    anti join superseded using (filename, file_row_number)
    where shards.other_id is null
    union all
    select shards.*
    from judgments_shards as shards
    anti join superseded using (filename, file_row_number)
    semi join rivals using (judge, other_id)
    where shards.other_id is not null
),

judges as (select distinct judge, judge_reads from panel),

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

select * exclude (filename, file_row_number) from without_context
union all
select * exclude (filename, file_row_number) from in_context
