-- Grain: one row per iteration (-1 for the probe): its prompts, and those that are not held out.
-- Reads: prompts
select
    coalesce(iteration, -1) as iteration,
    count(*) as prompts,
    count(*) filter (split != 'test') as trained_on
from prompts
group by iteration
order by iteration
