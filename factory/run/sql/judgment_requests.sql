-- Grain: one row per request of the judging steps of one pass, with all that it needs.
-- All samples of a prompt follow one another, whatever their role: judgments of them share the
-- rubric and the prompt, which the engine then reads once.
-- Reads: pending, prompts, samples
select
    pending.place,
    pending.request_id,
    pending.draws,
    samples.sample_id,
    samples.text,
    prompts.* replace (pending.context as context)
from samples
join pending on pending.subject_id = samples.sample_id
join prompts using (prompt_id)
order by pending.model, prompts.prompt_id, samples.sample_id
