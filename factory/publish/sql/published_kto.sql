-- Grain: one row per labeled answer of one iteration and split, from the named query `kto`.
-- Reads: kto, prompts
-- Parameters: iteration, split
select
    prompts.messages as prompt,
    prompts.tools,
    prompts.template_kwargs,
    kto.completion,
    kto.label,
    kto.iteration,
    kto.prompt_id,
    kto.sample_id,
    prompts.source,
    prompts.license
from kto
join prompts on prompts.prompt_id = kto.prompt_id and prompts.split = kto.split
where kto.iteration = $iteration and kto.split = $split
order by kto.prompt_id, kto.sample_id
