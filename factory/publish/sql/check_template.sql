-- Grain: one row per published pair and control token in one of its texts.
-- Reads: control_tokens, gate_pairs
select config, pair_id as id, token as what
from gate_pairs
join control_tokens
    on contains(chosen, token) or contains(rejected, token) or contains(prompt, token)
order by config, id, what
