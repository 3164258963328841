-- Grain: one row a request of a sampling step, with all that the request needs.
select to_ask.request_id, to_ask.draws, prompts.* replace (to_ask.context as context)
from scope_prompts as prompts
join to_ask on to_ask.subject_id = prompts.prompt_id
