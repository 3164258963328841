-- Grain: one row per pair that was considered in one iteration, in either phase, with its outcome.
-- Reads: pairs
-- Parameters: iteration
select pairs.*
from pairs
where pairs.iteration = $iteration
order by pairs.phase, pairs.prompt_id, pairs.pair_id
