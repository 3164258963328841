-- Grain: one row per request of the sampling steps of one pass, with its prompt.
-- All requests of a prompt to one model are adjacent, so that the engine can reuse the cached prefix.
-- Reads: pending, prompts
select
    pending.place,
    pending.request_id,
    pending.draws,
    prompts.* replace (pending.context as context)
from prompts
join pending on pending.subject_id = prompts.prompt_id
order by pending.model, prompts.prompt_id, pending.draws[1]
