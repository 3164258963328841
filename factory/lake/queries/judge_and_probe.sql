-- Whether the judge's praise is borne out: each model's mean score on the probe, which chose no
-- pair, with its change since M_0, beside the mean score that its judge gave its answers as current
-- or future model, both from `candidates`. They are of other prompts, and the judge may change with
-- the iteration: compare how they move, not their heights.
-- Grain: one row per model of the loop; NULL where it has no scores of a kind.
-- Reads: candidates
with scored as (
    select
        name,
        min(iteration) as iteration,
        avg(score) filter (role = 'probe') as probe_score,
        count(score) filter (role = 'probe') as probe_answers,
        avg(score) filter (role in ('current', 'future')) as judge_score,
        count(score) filter (role in ('current', 'future')) as judge_answers
    from candidates
    where score is not null and role in ('probe', 'current', 'future')
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
