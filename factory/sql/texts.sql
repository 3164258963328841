-- Grain: one row a sample that a published pair has on one of its sides: its text, read once for all
-- iterations and splits.
with named as (
    select unnest([chosen_id, rejected_id]) as sample_id
    from pairs
    semi join published using (phase)
    where outcome = 'kept'
)

select sample_id, any_value(text) as text
from samples
semi join named using (sample_id)
group by sample_id
