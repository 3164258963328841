-- Grain: one row per considered pair, with its outcome.
-- Reads: pairs_shards
select * exclude (filename) rename (build as build_key)
from pairs_shards
