-- Grain: one row per build that considered the given pair. The preferred builds come first, then
-- builds that kept the pair, and D2 builds come before D1 builds.
-- Reads: pairs_shards
-- Parameters: pair_id, preferred
select * exclude (filename) rename (build as build_key)
from pairs_shards
where pair_id = $pair_id
order by
    not list_contains(string_split($preferred, ' '), build_key),
    outcome != 'kept',
    phase desc,
    build_key
