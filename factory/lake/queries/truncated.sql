-- How many answers did `max_tokens` cut off, and how do they score? Truncated answers have the
-- `finish_reason` `length` in `candidates`. The query compares their mean score with that of
-- complete answers (`pair_score`). `chosen` and `rejected` count the truncated answers that are a
-- side of a kept pair in `final_pairs`.
-- Grain: one row per iteration, role, and model, without failed samples.
-- Reads: candidates, final_pairs
with published as (
    select chosen_id, rejected_id
    from final_pairs
    where outcome = 'kept'
),

answers as (
    select
        iteration,
        role,
        name,
        pair_score,
        coalesce(finish_reason = 'length', false) as is_truncated,
        sample_id in (select chosen_id from published) as is_chosen,
        sample_id in (select rejected_id from published) as is_rejected
    from candidates
    where error is null
)

select
    iteration,
    role,
    name,
    count(*) as answers,
    count(*) filter (is_truncated) as truncated,
    round(count(*) filter (is_truncated) / count(*), 3) as share,
    round(avg(pair_score) filter (is_truncated), 3) as score_truncated,
    round(avg(pair_score) filter (not is_truncated), 3) as score_whole,
    count(*) filter (is_truncated and is_chosen) as chosen,
    count(*) filter (is_truncated and is_rejected) as rejected
from answers
group by iteration, role, name
order by iteration, role, name
