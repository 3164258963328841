-- Grain: one row for a prompt.
-- Reads: prompts_shards
-- Parameters: prompt_id
select * exclude (filename)
from prompts_shards
where prompt_id = $prompt_id
limit 1
