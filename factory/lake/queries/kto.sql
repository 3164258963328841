-- Unpaired rows with labels, as KTO trainers read them (prompt, completion, label): the sides of
-- the kept D2 pairs of `pairs`, with the texts of `prompts` and `samples`. A sample that is chosen
-- in one pair and rejected in another says nothing and is left out.
-- Grain: one row per sample.
-- Reads: pairs, prompts, samples
with sides as (
    select prompt_id, iteration, split, chosen_id as sample_id, true as label
    from pairs
    where phase = 'D2' and outcome = 'kept'
    union all
    select prompt_id, iteration, split, rejected_id, false
    from pairs
    where phase = 'D2' and outcome = 'kept'
),

once as (
    select
        sample_id,
        any_value(prompt_id) as prompt_id,
        any_value(split) as split,
        min(iteration) as iteration,
        bool_and(label) as label
    from sides
    group by sample_id
    having count(distinct label) = 1
),

texts as (select sample_id, any_value(text) as text from samples group by sample_id)

select
    list_transform(
        prompts.messages, lambda message: {'role': message.role, 'content': message.content}
    ) as prompt,
    [{'role': 'assistant', 'content': texts.text}] as completion,
    once.label,
    once.split,
    once.iteration,
    once.prompt_id,
    once.sample_id
from once
join prompts on prompts.prompt_id = once.prompt_id and prompts.split = once.split
join texts using (sample_id)
order by once.iteration, once.prompt_id, once.sample_id
