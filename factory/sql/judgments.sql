-- Grain: one row a judgment: (judge, sample, draw).
-- Made twice: as in samples.sql.
with ranked as (
    select
        filename,
        file_row_number,
        row_number() over (
            partition by judge, request_id, draw
            order by error_kind is not distinct from 'transient', filename, file_row_number
        ) as place
    from judgments_shards
),

superseded as (select filename, file_row_number from ranked where place > 1)

select shards.* exclude (filename, file_row_number)
from judgments_shards as shards
anti join superseded using (filename, file_row_number)
