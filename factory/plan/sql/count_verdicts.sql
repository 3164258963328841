-- Grain: one row for the step: the number of judgments, of those with a verdict, and of verdicts without a
-- score.
-- Reads: judgments, scope_placed, step, verdicts
with judged as (
    select judgments.*
    from judgments
    semi join scope_placed using (sample_id), step
    where judgments.draw < step.n_draws
)

select
    count(*) as wanted,
    count(verdicts.judgment_id) as answered,
    0 as failed,
    0 as transient,
    count(*) filter (judged.error is not null) as filtered,
    count(*) filter (verdicts.judgment_id is not null and score is null) as unparsed
from judged
left join verdicts using (judgment_id)
