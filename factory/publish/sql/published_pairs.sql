-- Grain: one row per pair that was considered in one iteration, in either phase, with its outcome.
-- Reads: pairs, part
select pairs.*
from pairs
semi join part using (iteration)
order by pairs.phase, pairs.prompt_id, pairs.pair_id
