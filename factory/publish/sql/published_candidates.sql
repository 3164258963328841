-- Grain: one row per sample and role of one iteration and split, with the prompt.
-- Reads: candidates, prompts
-- Parameters: iteration, split
select
    candidates.*,
    prompts.messages as prompt,
    prompts.tools,
    prompts.template_kwargs,
    prompts.source,
    prompts.license
from candidates
join prompts on prompts.prompt_id = candidates.prompt_id and prompts.split = candidates.split
where candidates.iteration = $iteration and candidates.split = $split
order by candidates.prompt_id, candidates.role, candidates.name, candidates.draw
