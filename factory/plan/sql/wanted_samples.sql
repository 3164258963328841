-- Grain: one row per draw that the step wants: (request, draw).
-- Reads: scope_prompts, step
select
    prompt_id as subject_id,
    null::varchar as other_id,
    '' as context,
    row_id(
        request_key,
        prompt_id,
        asked_beside(step.role, template_kwargs, reference, tools, messages)
    ) as request_id,
    unnest(range(first_draw, first_draw + n_draws))::int as draw,
    true as is_requested
from scope_prompts, step
