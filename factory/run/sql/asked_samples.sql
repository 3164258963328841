-- Grain: one row a request of the sampling steps that are asked together, with all that it needs.
-- A prompt's requests to one model follow one another: they share what the engine has read of it.
select
    to_ask.place,
    to_ask.request_id,
    to_ask.draws,
    prompts.* replace (to_ask.context as context)
from prompts
join to_ask on to_ask.subject_id = prompts.prompt_id
order by to_ask.model, prompts.prompt_id, to_ask.draws[1]
