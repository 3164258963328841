-- Grain: one row a request of the comparing steps that are asked together, with all that it needs.
-- All comparisons of a prompt follow one another: they share what the engine has read of it.
select
    to_ask.place,
    to_ask.request_id,
    to_ask.draws,
    samples.sample_id,
    samples.text,
    to_ask.other_id,
    rivals.other_text,
    prompts.* replace (to_ask.context as context)
from samples
join to_ask on to_ask.subject_id = samples.sample_id
join rivals using (other_id)
join prompts on prompts.prompt_id = samples.prompt_id
order by to_ask.model, prompts.prompt_id, samples.sample_id, to_ask.other_id
