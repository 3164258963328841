-- Grain: one row per published pair with an answer that is empty or only whitespace, or per such
-- answer without a rejected one.
-- Reads: gate_pairs
select config, pair_id as id, if(chosen = '', 'chosen', 'rejected') as what
from gate_pairs
where chosen = '' or rejected = ''
order by config, id
