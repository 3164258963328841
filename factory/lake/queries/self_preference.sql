-- Does a judge score its own answers higher than those of other models? The query shows the mean
-- scores in `candidates` by judge and by the model that wrote the answers, and the difference from
-- the judge's own answers. If the pairs rank by expected scores, it uses those. A judge's own
-- answers may really be better: see judge_and_probe.
-- Grain: one row per iteration, judge, role, and model, without the probe, which has a different
-- judge.
-- Reads: candidates, judges
with scored as (
    select
        candidates.iteration,
        judges.title as judge,
        candidates.role,
        candidates.name,
        coalesce(candidates.model = judges.judge_model, false) as is_own,
        if(judges.ranks_by = 'expected_score', candidates.expected_score, candidates.score)
            as judge_score
    from candidates
    join judges using (parser_key)
    where candidates.role != 'probe' and judge_score is not null
),

own as (
    select iteration, judge, avg(judge_score) as own_score
    from scored
    where is_own
    group by iteration, judge
)

select
    iteration,
    judge,
    role,
    name,
    bool_or(is_own) as is_own,
    count(*) as answers,
    round(avg(judge_score), 3) as mean_score,
    round(avg(judge_score) - any_value(own_score), 3) as difference_from_own
from scored
left join own using (iteration, judge)
group by iteration, judge, role, name
order by iteration, judge, role, name
