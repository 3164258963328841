-- Grain: one row: the number of prompts of the loop with tools, which training rows cannot contain.
-- Reads: prompts
select count(*) as n
from prompts
where tools is not null and split != 'probe'
