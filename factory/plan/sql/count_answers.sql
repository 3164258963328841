-- Grain: one row for the step: the number of wanted draws, and how many of them are answered, failed
-- permanently, failed temporarily, or are not requested.
-- Reads: answers, wanted
select
    count(*) as wanted,
    count(*) filter (is_requested and answers.request_id is not null and error is null) as answered,
    count(*) filter (is_requested and error_kind = 'permanent') as failed,
    count(*) filter (is_requested and error_kind = 'transient') as transient,
    count(*) filter (not is_requested) as filtered
from wanted
left join answers using (request_id, draw)
