-- Grain: one row per candidate that may be a side of a pair: it has a score, and it is not
-- truncated if the recipe drops truncated answers. `tie` orders candidates with equal scores.
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
