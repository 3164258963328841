-- Grain: one row per role of one iteration and judge; without the probe.
-- Reads: panel, part
select panel.*
from panel
semi join part using (iteration)
where panel.role != 'probe'
order by panel.role, panel.name, panel.judge_name
