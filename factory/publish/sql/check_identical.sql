-- Grain: one row per published pair with the same text as both answers, ignoring outer whitespace.
-- Reads: gate_pairs
select config, pair_id as id, left(chosen, 60) as what
from gate_pairs
where chosen = rejected
order by config, id
