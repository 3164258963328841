-- Grain: one row a published pair whose prompt has no licence.
select config, pair_id as id, 'no licence' as what
from gate_pairs
where trim(coalesce(license, '')) = ''
order by config, id
