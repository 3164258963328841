-- Grain: one row per outcome of the pairs in a folder: the number of pairs, the most frequent outcome
-- first.
-- Reads: pairs_shards
select outcome, count(*) as pairs
from pairs_shards
group by outcome
order by pairs desc, outcome
