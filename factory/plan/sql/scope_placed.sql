-- Grain: one row per sample that has the step's role and belongs to one of the step's prompts.
-- Reads: placed, scope_prompts, step
select placed.*
from placed
semi join scope_prompts using (prompt_id), step
where placed.role = step.role
