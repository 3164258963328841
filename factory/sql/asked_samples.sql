-- Grain: one row a request of a sampling step, with all that the request needs.
select missing.request_id, missing.draws, prompts.*
from scope_prompts as prompts
join missing on missing.subject_id = prompts.prompt_id
