-- Grain: one row per answer that a model is trained on by SFT.
select prompt, chosen as completion
from pair_rows
order by pair_id
