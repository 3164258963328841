-- Grain: one row per prompt field that a rubric may name: the number of the loop's prompts without it, and
-- the last message of one of them. The probe's prompts are left out, because a function judges them.
-- Reads: prompts
with of_loop as (select * from prompts where split != 'probe'),

fields as (
    select 'criteria' as field, criteria as value, prompt_id, messages from of_loop
    union all
    select 'reference' as field, reference as value, prompt_id, messages from of_loop
),

marked as (
    select *, not regexp_matches(coalesce(value, ''), '\S') as is_empty from fields
)

select
    field,
    count(*) as prompts,
    count(*) filter (is_empty) as empty,
    min_by(messages[-1].content, prompt_id) filter (is_empty) as example
from marked
group by field
order by field
