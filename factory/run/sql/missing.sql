-- Grain: one row a request that lacks draws, with the draws that it lacks.
-- Held is what was answered or has failed for good; a transient failure is asked again.
with held as (
    select request_id, draw
    from answers
    where error_kind is distinct from 'transient'
)

select subject_id, other_id, context, request_id, list(draw order by draw) as draws
from wanted
anti join held using (request_id, draw)
where asks
group by subject_id, other_id, context, request_id
