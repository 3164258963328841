-- Grain: one row per prompt of one iteration, whatever its split; without the probe.
-- Reads: part, prompts
select prompts.*
from prompts
semi join part using (iteration)
where prompts.split != 'probe'
order by prompts.prompt_id
