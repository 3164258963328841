-- Each answer alone, with whether it is a good one: the sides of the pairs. An answer that is chosen
-- in one pair and rejected in another says nothing and is left out. Ids alone are gathered; the texts
-- pass by in the order of the dataset.
-- Grain: one row per sample of the pairs of `dataset`.
-- Reads: dataset
with sides as (
    select
        iteration,
        pair_id,
        unnest([{'id': chosen_id, 'label': true}, {'id': rejected_id, 'label': false}]) as side
    from dataset
),

samples as (
    select
        side.id as sample_id,
        bool_and(side.label) as label,
        min((iteration, pair_id)) as first_pair
    from sides
    group by side.id
    having count(distinct side.label) = 1
),

answers as (
    select
        iteration,
        pair_id,
        prompt,
        unnest([
            {'id': chosen_id, 'messages': chosen}, {'id': rejected_id, 'messages': rejected}
        ]) as side
    from dataset
)

select answers.prompt, answers.side.messages as completion, samples.label
from answers
join samples
    on samples.sample_id = answers.side.id
    and samples.first_pair = (answers.iteration, answers.pair_id)
