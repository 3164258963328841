-- Grain: one row: the number of prompts that the probe shares with the loop.
-- Reads: prompts
with of_probe as (select prompt_id from prompts where split = 'probe'),

of_loop as (select prompt_id from prompts where split != 'probe')

select count(*) as n from of_probe semi join of_loop using (prompt_id)
