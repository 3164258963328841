-- Grain: one row per model trained in one iteration. The first iteration also has the models that
-- the recipe did not train.
-- Reads: models, pairs
-- Parameters: iteration
with made as (
    select models.*, min(pairs.iteration) as iteration
    from models
    left join pairs on pairs.build_key = models.build_key
    group by all
)

select made.* exclude (iteration)
from made
where coalesce(made.iteration, 0) = $iteration
order by made.digest
