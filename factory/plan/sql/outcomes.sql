-- Grain: one row per outcome of a build's pairs: how many have it, the most frequent first.
-- Reads: pairs_shards
select outcome, count(*) as pairs
from pairs_shards
group by outcome
order by pairs desc, outcome
