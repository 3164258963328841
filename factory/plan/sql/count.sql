-- Grain: one row for the step: how many of the wanted draws are answered, failed for good, failed
-- for now, or never asked for.
select
    count(*) as wanted,
    count(*) filter (asks and answers.request_id is not null and error is null) as answered,
    count(*) filter (asks and error_kind = 'permanent') as failed,
    count(*) filter (asks and error_kind = 'transient') as transient,
    count(*) filter (not asks) as filtered
from wanted
left join answers using (request_id, draw)
