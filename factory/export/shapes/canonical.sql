-- Only prompt, chosen, and rejected, each as a list of messages, and what else the dataset has for
-- the chat template.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select columns('^(prompt|chosen|rejected|tools|chat_template_kwargs)$') from dataset
