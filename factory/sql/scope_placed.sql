-- Grain: one row a sample in a role whose prompt the step is about.
select placed.* from placed semi join scope_prompts using (prompt_id)
