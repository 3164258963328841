-- Grain: one row per pair that DPO trains on.
-- Reads: pair_rows
select prompt, chosen, rejected, tools, template_kwargs
from pair_rows
where rejected is not null
order by pair_id
