-- Grain: one row per chosen answer that a model learns from alone: kept, and not a test prompt's.
-- Reads: pairs, prompts, texts
select
    bare_messages(prompts.messages) as prompt,
    [{'role': 'assistant', 'content': chosen.text}] as completion
from pairs
join prompts on prompts.prompt_id = pairs.prompt_id and prompts.split = pairs.split
join texts as chosen on chosen.sample_id = pairs.chosen_id
where pairs.outcome = 'kept' and pairs.split = 'train'
order by pairs.pair_id
