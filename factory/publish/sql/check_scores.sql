-- Grain: one row per published pair with a missing score, or with a chosen score that is not higher
-- than the rejected score. Without a rejected answer, one row per answer with a missing score. DuckDB
-- calls NaN higher than every number.
-- Reads: gate_pairs
select
    config,
    pair_id as id,
    coalesce(score_chosen::varchar, 'none') || ' over ' || coalesce(score_rejected::varchar, 'none')
        as what
from gate_pairs
where
    if(
        rejected_id is null,
        isfinite(score_chosen),
        score_chosen > score_rejected and isfinite(score_chosen - score_rejected)
    ) is not true
order by config, id
