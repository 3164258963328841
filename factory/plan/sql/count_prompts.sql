-- Grain: one row per iteration (-1 for the probe): the number of its prompts, and of those outside the
-- test split.
-- Reads: prompts
select
    coalesce(iteration, -1) as iteration,
    count(*) as prompts,
    count(*) filter (split != 'test') as trained_on
from prompts
group by iteration
order by iteration
