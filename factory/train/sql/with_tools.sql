-- Grain: one row: the number of the loop's prompts that have tools, which training rows drop.
-- Reads: prompts
select count(*) as n
from prompts
where tools is not null and split != 'probe'
