-- How often does a model repeat an answer to the same prompt? Two answers are duplicates if their
-- texts in `samples` are equal after white space at both ends is removed. `duplicates` counts every
-- answer after the first with the same text. Failed and empty answers are left out.
-- Grain: one row per iteration, role, and model.
-- Reads: placed
with answers as (
    select iteration, role, name, prompt_id, md5(bare(text)) as answer
    from placed
    where error is null and bare(text) != ''
),

by_prompt as (
    select
        iteration,
        role,
        name,
        prompt_id,
        count(*) as answers,
        count(distinct answer) as different
    from answers
    group by iteration, role, name, prompt_id
)

select
    iteration,
    role,
    name,
    sum(answers)::bigint as answers,
    sum(answers - different)::bigint as duplicates,
    round(sum(answers - different) / sum(answers), 3) as share,
    count(*) as prompts,
    count(*) filter (different < answers) as prompts_with_duplicates,
    count(*) filter (different = 1 and answers > 1) as prompts_with_one_answer
from by_prompt
group by iteration, role, name
order by iteration, role, name
