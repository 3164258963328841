-- Grain: one row per role of one iteration, without the probe.
-- Reads: roles
-- Parameters: iteration
select roles.*
from roles
where roles.iteration = $iteration and roles.role != 'probe'
order by roles.role, roles.name
