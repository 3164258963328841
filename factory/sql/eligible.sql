-- Grain: one row a candidate that a pair may take a side from: it has a score, by the measure that
-- decides, and was not cut off where such answers are dropped. `tie` orders equal scores.
select
    candidates.* exclude (score),
    if(decides = 'expected', candidates.expected_score, candidates.score) as score,
    case ties
        when 'draw' then candidates.draw
        when 'shorter' then candidates.n_tokens
        when 'longer' then -candidates.n_tokens
        else md5_number_lower(candidates.sample_id)
    end::double as tie
from candidates, pair_settings
where if(decides = 'expected', candidates.expected_score, candidates.score) is not null
    and not (drop_truncated and candidates.finish_reason is not distinct from 'length')
