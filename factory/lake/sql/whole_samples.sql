-- Grain: a single row. `is_whole` is true if the shards have no duplicate draws, so that the view
-- keeps every row. Two draws with the same hash look like duplicates. Then `is_whole` is false,
-- which is slow but never wrong.
-- Reads: samples_shards
select count(*) = count(distinct hash(sampling, request_id, draw)) as is_whole
from samples_shards
