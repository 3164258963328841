-- How long the longest best answer is with its prompt, in tokens of the model that made it; NULL
-- where they were not counted.
-- Grain: one row in all.
-- Reads: candidates, dataset
select max(n_prompt_tokens + n_tokens) as longest
from candidates
semi join dataset using (sample_id)
