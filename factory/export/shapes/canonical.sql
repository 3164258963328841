-- Prompt, chosen, and rejected as lists of messages, and the other columns for the chat template.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select columns('^(prompt|chosen|rejected|tools|chat_template_kwargs)$') from dataset
