-- Grain: one row a role of one iteration; without the probe.
select roles.*
from roles
semi join part using (iteration)
where roles.role != 'probe'
order by roles.role, roles.name
