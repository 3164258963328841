-- The best answers of the named query `best_of_k`, with the prompts as stored in `prompts`.
-- Grain: one row per prompt and iteration.
-- Reads: best_of_k, prompts
select
    best_of_k.* exclude (prompt),
    prompts.messages as prompt,
    prompts.tools,
    prompts.template_kwargs
from best_of_k
join prompts using (prompt_id, split, iteration)
order by best_of_k.iteration, best_of_k.prompt_id
