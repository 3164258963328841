-- Grain: one row a sample in the step's role whose prompt the step is about.
select placed.*
from placed
semi join scope_prompts using (prompt_id), step
where placed.role = step.role
