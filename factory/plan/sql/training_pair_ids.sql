-- Grain: one row: the ids of the pairs that train a model, sorted and joined by spaces.
-- Reads: pairs_shards
select coalesce(string_agg(pair_id, ' ' order by pair_id), '') as pair_ids
from pairs_shards
where outcome = 'kept' and split = 'train'
