-- Grain: one row per request of the comparing steps of one pass, with all that it needs.
-- All comparisons of a prompt follow one another: they share what the engine has read of it.
-- Reads: pending, prompts, rivals, samples
select
    pending.place,
    pending.request_id,
    pending.draws,
    samples.sample_id,
    samples.text,
    pending.other_id,
    rivals.other_text,
    prompts.* replace (pending.context as context)
from samples
join pending on pending.subject_id = samples.sample_id
join rivals using (other_id)
join prompts on prompts.prompt_id = samples.prompt_id
order by pending.model, prompts.prompt_id, samples.sample_id, pending.other_id
