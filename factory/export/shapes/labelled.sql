-- Each answer in the pairs once, with a label: true if the answer was chosen. A text that is chosen
-- in one pair and rejected in another pair of the same prompt is left out. The join keeps only IDs
-- and digests in memory and streams the texts in the order of the dataset.
-- Grain: one row per sample of the pairs of `dataset`.
-- Reads: dataset
with asked as (
    select
        *,
        concat_ws(chr(31), *columns('^(prompt|tools|chat_template_kwargs)$')) as shown_prompt
    from dataset
),

digests as materialized (
    select
        iteration,
        pair_id,
        chosen_id,
        rejected_id,
        answer_digest(shown_prompt, text_of(chosen)) as chosen_answer,
        answer_digest(shown_prompt, text_of(rejected)) as rejected_answer
    from asked
),

answers as (
    select
        iteration,
        pair_id,
        columns('^(prompt|tools|chat_template_kwargs)$'),
        unnest([
            {'id': chosen_id, 'messages': chosen}, {'id': rejected_id, 'messages': rejected}
        ]) as side
    from dataset
)

select
    answers.* exclude (iteration, pair_id, side),
    answers.side.messages as completion,
    labels.label
from answers
join labels_of('digests') as labels
    on labels.sample_id = answers.side.id
    and labels.iteration = answers.iteration
    and labels.pair_id = answers.pair_id
