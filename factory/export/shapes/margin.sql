-- Prompt, chosen, and rejected, with the difference of the two scores, which the loss of a reward
-- model can use.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select columns('^(prompt|chosen|rejected|margin|tools|chat_template_kwargs)$') from dataset
