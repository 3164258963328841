-- Grain: one row per request with missing draws, with the list of these draws.
-- A request that failed temporarily is missing and is retried; a permanent failure is final.
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
