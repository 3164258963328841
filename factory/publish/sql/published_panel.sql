-- Grain: one row per role and judge of one iteration, without the probe.
-- Reads: panel
-- Parameters: iteration
select panel.*
from panel
where panel.iteration = $iteration and panel.role != 'probe'
order by panel.role, panel.name, panel.judge_name
