-- Grain: one row per judge and rival. A rival is an answer with which the judge compares the other
-- answers to the same prompt. Rivals are the current model's first draws, so that all roles have
-- the same opponents.
-- Reads: panel, placed
with compares as (
    select distinct judge_key, iteration, opponents
    from panel
    where opponents is not null
)

select compares.judge_key, placed.prompt_id, placed.sample_id as other_id, placed.text as other_text
from placed
join compares using (iteration)
where placed.role = 'current'
    and placed.draw < compares.opponents
    and placed.error is null
    and bare(placed.text) != ''
