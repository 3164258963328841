-- Grain: one row a published pair with a side that is empty or white space.
select config, pair_id as id, if(chosen = '', 'chosen', 'rejected') as what
from gate_pairs
where chosen = '' or rejected = ''
order by config, id
