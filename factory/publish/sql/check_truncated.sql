-- Grain: one row per answer of a published pair that the token limit cut off.
-- Reads: gate_pairs, samples
with cut as (
    select distinct sample_id
    from samples
    where finish_reason = 'length'
),

sides as (
    select config, pair_id, unnest([chosen_id, rejected_id]) as sample_id
    from gate_pairs
)

select config, pair_id as id, 'sample ' || sample_id as what
from sides
semi join cut using (sample_id)
order by config, id, what
