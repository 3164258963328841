-- Grain: one row for a verdicts step: the number of judgments with a score, their lowest and highest
-- scores, and three examples.
-- Reads: judgments, scope_placed, step, verdicts
select
    count(*) as n,
    min(verdicts.score) as lowest_score,
    max(verdicts.score) as highest_score,
    min(verdicts.expected_score) as lowest_expected_score,
    max(verdicts.expected_score) as highest_expected_score,
    min_by(judgments.text, judgments.judgment_id, 3) as examples
from judgments
semi join scope_placed using (sample_id)
join verdicts using (judgment_id), step
where judgments.draw < step.n_draws and verdicts.score is not null
