-- Grain: one row for a samples step: the number of answers, the number cut off by max_tokens, and three of
-- these.
-- Reads: answers, wanted
select
    count(*) as n,
    count(*) filter (finish_reason = 'length') as bad,
    min_by(text, request_id, 3) filter (finish_reason = 'length') as examples
from wanted
join answers using (request_id, draw)
where error is null
