-- Grain: one row per published pair with a side that is empty or white space.
-- Reads: gate_pairs
select config, pair_id as id, if(chosen = '', 'chosen', 'rejected') as what
from gate_pairs
where chosen = '' or rejected = ''
order by config, id
