-- Each answer alone, with whether it is a good one: the sides of the pairs. An answer that is chosen
-- in one pair and rejected in another says nothing and is left out.
-- Grain: one row a sample of the pairs of `dataset`.
with sides as (
    select
        iteration,
        prompt_id,
        unnest([
            {'id': chosen_id, 'label': true},
            {'id': rejected_id, 'label': false}
        ]) as side,
        pair_id
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
)

select
    dataset.prompt,
    if(samples.label, dataset.chosen, dataset.rejected) as completion,
    samples.label
from samples
join dataset on (dataset.iteration, dataset.pair_id) = samples.first_pair
order by dataset.iteration, dataset.prompt_id, samples.sample_id
