-- Grain: one row, the prompt with an id.
-- Reads: prompts_shards
-- Parameters: prompt_id
select * exclude (filename)
from prompts_shards
where prompt_id = $prompt_id
limit 1
