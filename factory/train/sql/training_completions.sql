-- Grain: one row per answer that a model is trained on by SFT.
-- Reads: pair_rows
select prompt, chosen as completion
from pair_rows
order by pair_id
