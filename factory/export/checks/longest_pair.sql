-- How long the longest pair is, in tokens of the model that made it; NULL where they were not
-- counted.
-- Grain: one row in all.
-- Reads: dataset
select max(prompt_tokens + greatest(chosen_tokens, rejected_tokens)) as longest from dataset
