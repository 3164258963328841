-- Grain: one row: whether each draw of the shards was made once, so that the view leaves none out.
-- Two draws of one hash look like one that was made twice: then it is only not known.
-- Reads: samples_shards
select count(*) = count(distinct hash(sampling, request_id, draw)) as is_whole
from samples_shards
