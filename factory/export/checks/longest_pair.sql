-- The number of tokens in the prompt and the longer answer of the longest pair, counted with the
-- tokenizer of the model that wrote the answer. NULL if tokens were not counted.
-- Grain: one row.
-- Reads: dataset
select max(prompt_tokens + greatest(chosen_tokens, rejected_tokens)) as longest from dataset
