-- The best of each prompt's current answers, for rejection sampling (prompt and completion, as SFT
-- trainers read them): by score in `candidates`, of equal ones the lowest draw, with the texts of
-- `prompts`. Prompts that no answer has a score for are left out.
-- Grain: one row per prompt and iteration.
-- Reads: candidates, prompts
with ranked as (
    select
        *,
        row_number() over (
            partition by iteration, prompt_id order by score desc, draw, sample_id
        ) as place
    from candidates
    where role = 'current' and score is not null
)

select
    bare_messages(prompts.messages) as prompt,
    [{'role': 'assistant', 'content': ranked.text}] as completion,
    ranked.score,
    ranked.split,
    ranked.iteration,
    ranked.sample_id
from ranked
join prompts on prompts.prompt_id = ranked.prompt_id and prompts.split = ranked.split
where ranked.place = 1
order by ranked.iteration, ranked.prompt_id
