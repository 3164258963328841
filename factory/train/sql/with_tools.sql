-- Grain: one row: how many of the loop's prompts have tools, which rows of bare messages do not carry.
-- Reads: prompts
select count(*) as n
from prompts
where tools is not null and split != 'probe'
