-- Grain: one row per role of one iteration and judge; without the probe.
-- Reads: panel
-- Parameters: iteration
select panel.*
from panel
where panel.iteration = $iteration and panel.role != 'probe'
order by panel.role, panel.name, panel.judge_name
