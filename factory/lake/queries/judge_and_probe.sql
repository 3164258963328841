-- Do models that the judge scores higher also do better on the probe? For each model, `probe_score`
-- is its mean score on the probe and `change` the difference from M_0. `judge_score` is the mean
-- score of the model's answers as current or future model. Both are means of `pair_score` in
-- `candidates`. The two scores belong to different prompts, and the judge may change in each
-- iteration, so compare their trends and not their values.
-- Grain: one row per model of the loop; a score is NULL if the model has no such answers.
-- Reads: candidates
with scored as (
    select
        name,
        min(iteration) as iteration,
        avg(pair_score) filter (role = 'probe') as probe_score,
        count(pair_score) filter (role = 'probe') as probe_answers,
        avg(pair_score) filter (role in ('current', 'future')) as judge_score,
        count(pair_score) filter (role in ('current', 'future')) as judge_answers
    from candidates
    where pair_score is not null and role in ('probe', 'current', 'future')
    group by name
),

of_first as (select probe_score as first_score from scored where name = 'M_0')

select
    name,
    round(probe_score, 3) as probe_score,
    round(probe_score - (select first_score from of_first), 3) as change,
    probe_answers,
    round(judge_score, 3) as judge_score,
    judge_answers
from scored
order by iteration, name desc
