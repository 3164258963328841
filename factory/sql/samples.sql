-- Grain: one row a draw of a request: (model, sampling, prompt, draw).
-- Where a draw was made twice (a transient failure asked again), the answer wins over the
-- failure, and among equals the first shard by name, everywhere.
-- Hardly any was: keys that come twice are first looked for by their hashes, which takes a third
-- of the time of ranking all rows.
with suspects as (
    select hash(sampling, request_id, draw) as key
    from samples_shards
    group by key
    having count(*) > 1
),

ranked as (
    select
        filename,
        file_row_number,
        row_number() over (
            partition by sampling, request_id, draw
            order by error_kind is not distinct from 'transient', filename, file_row_number
        ) as place
    from samples_shards
    where hash(sampling, request_id, draw) in (select key from suspects)
),

superseded as (select filename, file_row_number from ranked where place > 1)

select shards.* exclude (filename, file_row_number)
from samples_shards as shards
anti join superseded using (filename, file_row_number)
