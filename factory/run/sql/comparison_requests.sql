-- Grain: one row per request of the comparing steps of one pass, with the texts of both answers.
-- All comparisons of a prompt are adjacent, so that the engine can reuse the prompt's cached prefix.
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
