-- Grain: one row per example of a pair that differs between A and B: the first pair of every status
-- and reason in `diff`, then the second, up to the number of examples.
-- Reads: diff
-- Parameters: examples
with numbered as (
    select
        *,
        list_position(
            ['gained', 'lost', 'flipped', 'changed chosen', 'changed rejected', 'changed both'],
            status
        ) as rank,
        count(*) over (partition by status, reason) as pairs,
        row_number() over (
            partition by status, reason
            order by iteration, prompt_id, coalesce(a_pair_id, b_pair_id)
        ) as place
    from diff
    where status != 'same'
),

first_ones as (
    select *
    from numbered
    order by place, rank, pairs desc, reason
    limit $examples
)

select * exclude (rank, pairs, place)
from first_ones
order by rank, pairs desc, reason, place
