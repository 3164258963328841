-- Grain: one row per missing draw of the step that is answered in a folder with another max_tokens. An
-- answer that ended by itself within both limits is the same under both.
-- Reads: answers, other_shards, wanted
-- Parameters: max_tokens
with answered as (
    select request_id, draw
    from answers
    where error_kind is distinct from 'transient'
),

missing_draws as (
    select request_id, draw
    from wanted
    anti join answered using (request_id, draw)
    where is_requested
),

ended as (
    select other.*
    from other_shards as other
    semi join missing_draws using (request_id, draw)
    where other.error is null and other.finish_reason = 'stop' and other.n_tokens <= $max_tokens
)

select distinct on (request_id, draw) * exclude (filename, file_row_number)
from ended
order by request_id, draw, filename, file_row_number
