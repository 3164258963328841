-- Grain: one row per pair that a build considered, with its outcome.
-- Reads: pairs_shards
select * exclude (filename) rename (build as build_key)
from pairs_shards
