-- Grain: one row per model that one iteration made; the first also has the models that no training of
-- the recipe made.
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
