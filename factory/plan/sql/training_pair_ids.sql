-- Grain: one row: the pairs that a model learns from, in the order of their ids.
-- Reads: pairs_shards
select coalesce(string_agg(pair_id, ' ' order by pair_id), '') as pair_ids
from pairs_shards
where outcome = 'kept' and split = 'train'
