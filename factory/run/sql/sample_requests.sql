-- Grain: one row per request of the sampling steps of one pass, with all that it needs.
-- A prompt's requests to one model follow one another: they share what the engine has read of it.
-- Reads: pending, prompts
select
    pending.place,
    pending.request_id,
    pending.draws,
    prompts.* replace (pending.context as context)
from prompts
join pending on pending.subject_id = prompts.prompt_id
order by pending.model, prompts.prompt_id, pending.draws[1]
