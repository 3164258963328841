-- Grain: one row per role of one iteration; without the probe.
-- Reads: part, roles
select roles.*
from roles
semi join part using (iteration)
where roles.role != 'probe'
order by roles.role, roles.name
