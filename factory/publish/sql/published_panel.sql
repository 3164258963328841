-- Grain: one row a role of one iteration and judge; without the probe.
select panel.*
from panel
semi join part using (iteration)
where panel.role != 'probe'
order by panel.role, panel.name, panel.judge_name
