-- Grain: one row per model of the loop, with its mean score on the probe.
-- Reads: candidates
select name, round(avg(score), 3) as score, count(score)::int as answers
from candidates
where role = 'probe'
group by name
order by name
