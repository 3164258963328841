-- Labels of single answers for KTO, from the sides of pairs. A sample that is chosen in one pair
-- and rejected in another has no label. `pairs_table` needs the columns iteration, pair_id,
-- chosen_id, and rejected_id.
-- Grain: one row per sample, with the first pair that contains it.
create macro labels_of(pairs_table) as table
with sides as (
    select
        iteration,
        pair_id,
        unnest([{'id': chosen_id, 'label': true}, {'id': rejected_id, 'label': false}]) as side
    from query_table(pairs_table)
),

samples as (
    select
        side.id as sample_id,
        bool_and(side.label) as label,
        min({'iteration': iteration, 'pair_id': pair_id}) as first_pair
    from sides
    group by side.id
    having count(distinct side.label) = 1
)

select sample_id, label, first_pair.iteration as iteration, first_pair.pair_id as pair_id
from samples;
