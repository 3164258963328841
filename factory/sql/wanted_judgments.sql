-- Grain: one row a judgment that the step wants: (request, draw).
-- `asks` is false for samples that failed and for empty answers: they are not judged, have no
-- score, and so can never be a side of a pair. What the judge reads of the prompt beside its
-- messages (reference, criteria; for a function, meta too) is part of what is asked.
with context as (
    select
        prompt_id,
        if(
            reads_context,
            sha256(concat_ws(
                chr(31),
                coalesce(reference, ''),
                coalesce(criteria, ''),
                if(reads_meta, coalesce(meta, ''), '')
            )),
            ''
        ) as context
    from scope_prompts, step
)

select
    sample_id as subject_id,
    left(sha256(concat_ws(chr(31), asked, sample_id, context)), 24) as request_id,
    unnest(range(n_draws))::int as draw,
    error is null and bare(text) != '' as asks
from scope_placed
join context using (prompt_id), step
