-- Grain: one row per build that considered the given pair. Builds that kept the pair come first,
-- and D2 builds come before D1 builds.
-- Reads: pairs_shards
-- Parameters: pair_id
select * exclude (filename) rename (build as build_key)
from pairs_shards
where pair_id = $pair_id
order by outcome != 'kept', phase desc, build_key
