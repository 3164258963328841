-- Grain: one row per prompt of one iteration, in both splits, without the probe.
-- Reads: prompts
-- Parameters: iteration
select prompts.*
from prompts
where prompts.iteration = $iteration and prompts.split != 'probe'
order by prompts.prompt_id
