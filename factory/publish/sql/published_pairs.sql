-- Grain: one row per pair considered in one iteration, in both phases, with its outcome.
-- Reads: pairs
-- Parameters: iteration
select pairs.*
from pairs
where pairs.iteration = $iteration
order by pairs.phase, pairs.prompt_id, pairs.pair_id
