-- Grain: one row per candidate, with what decides about it: its score, and whether it may be chosen
-- or rejected. This is the file for one judge; a recipe that combines judges has its own query.
-- Reads: candidates, pair_settings
select
    candidates.*,
    if(pair_settings.decides = 'expected', expected_score, score) as deciding_score,
    n_judgments as deciding_judgments,
    true as may_be_chosen,
    true as may_be_rejected,
    []::double[] as votes
from candidates, pair_settings
