-- Grain: one row per candidate of one recipe in a role: the score that decides, and whether the answer
-- was cut off and is dropped for that.
-- Reads: measured, pair_settings
select
    iteration,
    prompt_id,
    role,
    model,
    sample_id,
    score,
    drop_truncated and finish_reason is not distinct from 'length' as is_cut_off
from measured, pair_settings
