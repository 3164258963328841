-- Grain: one row per candidate answer and role of a recipe, with the score used for choosing pairs,
-- and whether the answer is dropped because it was truncated.
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
