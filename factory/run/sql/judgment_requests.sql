-- Grain: one row per request of the judging steps of one pass, with the text of the answer.
-- All samples of a prompt are adjacent, in any role, so that the engine can reuse the cached prefix of
-- rubric and prompt.
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
