-- Grain: one row per sample in the step's role whose prompt the step is about.
-- Reads: placed, scope_prompts, step
select placed.*
from placed
semi join scope_prompts using (prompt_id), step
where placed.role = step.role
