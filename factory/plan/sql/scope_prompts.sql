-- Grain: one row per prompt that the step is about: its iteration's, or the probe's; of a preview,
-- those that are not held out.
-- Reads: prompts, step
select prompts.*
from prompts, step
where
    if(step.of_probe, prompts.split = 'probe', prompts.iteration = step.iteration)
    and (step.first_prompts is null or prompts.split != 'test')
