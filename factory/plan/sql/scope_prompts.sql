-- Grain: one row per prompt of the step: the prompts of its iteration or of the probe. A preview skips the
-- test split.
-- Reads: prompts, step
select prompts.*
from prompts, step
where
    if(step.of_probe, prompts.split = 'probe', prompts.iteration = step.iteration)
    and (step.first_prompts is null or prompts.split != 'test')
