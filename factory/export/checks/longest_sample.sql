-- The number of tokens in the longest of the best answers and its prompt, counted with the
-- tokenizer of the model that wrote the answer. NULL if tokens were not counted.
-- Grain: one row.
-- Reads: candidates, dataset
select max(n_prompt_tokens + n_tokens) as longest
from candidates
semi join dataset using (sample_id)
