-- Grain: one row per answer that SFT trains on.
-- Reads: pair_rows
select prompt, chosen as completion, tools, template_kwargs
from pair_rows
order by pair_id
