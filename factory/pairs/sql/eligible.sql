-- Grain: one row per candidate that a pair may take a side from: it has a score, and was not cut
-- off where such answers are dropped. `tie` orders equal scores.
-- Reads: measured, pair_settings
select
    measured.*,
    case ties
        when 'draw' then draw
        when 'shorter' then n_tokens
        when 'longer' then -n_tokens
        else md5_number_lower(sample_id)
    end::double as tie
from measured, pair_settings
where score is not null
    and not (drop_truncated and finish_reason is not distinct from 'length')
