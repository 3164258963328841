-- Grain: one row for a verdicts step: the number of judgments, the number without a score, and three of
-- these.
-- Reads: judgments, scope_placed, step, verdicts
select
    count(*) as n,
    count(*) filter (verdicts.score is null) as bad,
    min_by(judgments.text, judgments.judgment_id, 3) filter (verdicts.score is null) as examples
from judgments
semi join scope_placed using (sample_id)
join verdicts using (judgment_id), step
where judgments.draw < step.n_draws
