-- Which single answers can train a model with KTO? These rows have prompt and completion as lists
-- of messages, and a label: true for chosen and false for rejected. They are the two sides of the
-- kept pairs in `final_pairs`, with texts from `prompts` and `samples`. A text that is chosen in
-- one pair and rejected in another pair of the same prompt is left out.
-- Grain: one row per sample.
-- Reads: final_pairs, prompts, samples
with texts as (select sample_id, any_value(text) as text from samples group by sample_id),

kept as (
    select
        pairs.iteration,
        pairs.pair_id,
        pairs.prompt_id,
        pairs.split,
        pairs.chosen_id,
        pairs.rejected_id,
        answer_digest(pairs.prompt_id, chosen.text) as chosen_answer,
        answer_digest(pairs.prompt_id, rejected.text) as rejected_answer
    from final_pairs as pairs
    join texts as chosen on chosen.sample_id = pairs.chosen_id
    join texts as rejected on rejected.sample_id = pairs.rejected_id
    where pairs.outcome = 'kept'
)

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
