-- Grain: one row per build that considered a pair: builds that kept it first, published ones first.
-- Reads: pairs_shards
-- Parameters: pair_id
select * exclude (filename) rename (build as build_key)
from pairs_shards
where pair_id = $pair_id
order by outcome != 'kept', phase desc, build_key
