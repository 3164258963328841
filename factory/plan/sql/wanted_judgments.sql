-- Grain: one row per judgment that the step wants: (request, draw).
-- `is_requested` is false for failed samples and empty answers. They are not judged, get no score, and so
-- are never part of a pair. The context is part of the request: the prompt's reference and criteria, and
-- for a function also its meta.
-- Reads: scope_placed, scope_prompts, step
with contexts as (
    select
        prompt_id,
        case judge_reads
            when 'meta' then context_with_meta when 'context' then context else ''
        end as context
    from scope_prompts, step
)

select
    sample_id as subject_id,
    null::varchar as other_id,
    context,
    row_id(request_key, sample_id, context) as request_id,
    unnest(range(n_draws))::int as draw,
    error is null and bare(text) != '' as is_requested
from scope_placed
join contexts using (prompt_id), step
