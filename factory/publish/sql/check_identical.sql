-- Grain: one row per published pair whose sides are the same text, but for white space at the ends.
-- Reads: gate_pairs
select config, pair_id as id, left(chosen, 60) as what
from gate_pairs
where chosen = rejected
order by config, id
