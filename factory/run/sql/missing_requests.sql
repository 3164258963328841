-- Grain: one row per request that lacks draws, with the draws that it lacks.
-- A request is sent again if it failed temporarily, not if it failed permanently.
-- Reads: answers, wanted
-- Parameters: model, place
with answered as (
    select request_id, draw
    from answers
    where error_kind is distinct from 'transient'
)

select
    $place as place,
    $model as model,
    subject_id,
    other_id,
    context,
    request_id,
    list(draw order by draw) as draws
from wanted
anti join answered using (request_id, draw)
where is_requested
group by subject_id, other_id, context, request_id
