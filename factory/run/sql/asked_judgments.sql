-- Grain: one row a request of the judging steps that are asked together, with all that it needs.
-- All samples of a prompt follow one another, whatever their role: judgments of them share the
-- rubric and the prompt, which the engine then reads once.
select
    to_ask.place,
    to_ask.request_id,
    to_ask.draws,
    samples.sample_id,
    samples.text,
    prompts.* replace (to_ask.context as context)
from samples
join to_ask on to_ask.subject_id = samples.sample_id
join prompts using (prompt_id)
order by to_ask.model, prompts.prompt_id, samples.sample_id
