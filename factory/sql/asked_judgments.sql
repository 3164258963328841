-- Grain: one row a request of a judging step, with all that the request needs.
select
    missing.request_id,
    missing.draws,
    scope_placed.sample_id,
    scope_placed.text,
    prompts.* replace (
        case
            when reads_meta then context_with_meta when reads_context then context else ''
        end as context
    )
from scope_placed
join missing on missing.subject_id = scope_placed.sample_id
join scope_prompts as prompts using (prompt_id), step
