-- Which answer is the best one for each prompt? These rows are demonstrations for SFT (rejection
-- sampling), with prompt and completion as lists of messages. The best answer is the current
-- model's answer with the highest `pair_score` in `candidates`. If scores are equal, the lowest
-- draw wins. Prompts without a scored answer are left out.
-- Grain: one row per prompt and iteration.
-- Reads: candidates, prompts
with ranked as (
    select
        *,
        row_number() over (
            partition by iteration, prompt_id order by pair_score desc, draw, sample_id
        ) as place
    from candidates
    where role = 'current' and pair_score is not null
)

select
    bare_messages(prompts.messages) as prompt,
    [{'role': 'assistant', 'content': ranked.text}] as completion,
    ranked.pair_score as score,
    ranked.split,
    ranked.iteration,
    ranked.prompt_id,
    ranked.sample_id
from ranked
join prompts on prompts.prompt_id = ranked.prompt_id and prompts.split = ranked.split
where ranked.place = 1
order by ranked.iteration, ranked.prompt_id
