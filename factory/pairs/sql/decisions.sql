-- Grain: one row per candidate, with its score and whether it may be chosen or rejected.
-- This file is for one judge. The code generates the query of a recipe that combines judges.
-- Reads: candidates, pair_settings
select
    candidates.*,
    if(pair_settings.decides = 'expected', expected_score, score) as deciding_score,
    n_judgments as deciding_judgments,
    true as may_be_chosen,
    true as may_be_rejected,
    []::double[] as votes
from candidates, pair_settings
