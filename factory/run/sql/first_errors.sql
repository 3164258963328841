-- Grain: one row per error message of the step: the three most frequent.
-- Reads: answers, wanted
select error
from wanted
join answers using (request_id, draw)
where error is not null
group by error
order by count(*) desc, error
limit 3
