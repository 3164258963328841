-- Grain: one row per kind of failure of the step: the most frequent first, three at the most.
-- Reads: answers, wanted
select error
from wanted
join answers using (request_id, draw)
where error is not null
group by error
order by count(*) desc, error
limit 3
