-- Grain: one row a request of a judging step, with all that the request needs.
select
    to_ask.request_id,
    to_ask.draws,
    samples.sample_id,
    samples.text,
    prompts.* replace (to_ask.context as context)
from samples
join to_ask on to_ask.subject_id = samples.sample_id
join scope_prompts as prompts using (prompt_id)
