-- Grain: one row: the prompt with the given ID.
-- Reads: prompts_shards
-- Parameters: prompt_id
select * exclude (filename)
from prompts_shards
where prompt_id = $prompt_id
limit 1
