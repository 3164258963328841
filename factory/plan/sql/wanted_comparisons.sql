-- Grain: one row per comparison that the step wants: (request, draw). Even draws show the judged answer
-- first, odd draws show its opponent first, and each order is a separate request. As in
-- wanted_judgments.sql, `is_requested` is false for failed samples and empty answers.
-- Reads: rivals, scope_placed, scope_prompts, step
with contexts as (
    select prompt_id, if(judge_reads = 'context', context, '') as context
    from scope_prompts, step
),

compared as (
    select
        scope_placed.sample_id,
        scope_placed.error is null and bare(scope_placed.text) != '' as is_requested,
        contexts.context,
        rivals.other_id,
        unnest(range(step.n_draws))::int as draw
    from scope_placed
    join contexts using (prompt_id)
    join rivals
        on rivals.prompt_id = scope_placed.prompt_id and rivals.other_id != scope_placed.sample_id,
        step
)

select
    sample_id as subject_id,
    other_id,
    context,
    row_id(request_key, sample_id, concat_ws('/', context, other_id, draw % 2)) as request_id,
    draw,
    is_requested
from compared, step
