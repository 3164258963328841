-- Which single answers can train a model with KTO? These rows have prompt and completion as lists
-- of messages, and a label: true for chosen and false for rejected. They are the two sides of the
-- kept pairs in `final_pairs`, with texts from `prompts` and `samples`. A sample that is chosen in
-- one pair and rejected in another is left out.
-- Grain: one row per sample.
-- Reads: final_pairs, prompts, samples
with kept as (from final_pairs where outcome = 'kept'),

texts as (select sample_id, any_value(text) as text from samples group by sample_id)

select
    bare_messages(prompts.messages) as prompt,
    [{'role': 'assistant', 'content': texts.text}] as completion,
    labels.label,
    kept.split,
    kept.iteration,
    kept.prompt_id,
    labels.sample_id
from labels_of('kept') as labels
join kept using (iteration, pair_id)
join prompts on prompts.prompt_id = kept.prompt_id and prompts.split = kept.split
join texts using (sample_id)
order by kept.iteration, kept.prompt_id, labels.sample_id
