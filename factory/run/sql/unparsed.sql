-- Grain: one row a judgment of the step that has no verdict yet. Failed judgments get none.
with judged as (
    select judgments.*
    from judgments
    semi join scope_placed using (sample_id), step
    where judgments.error is null and judgments.draw < step.n_draws
)

select judgment_id, sample_id, draw, judge, text, value, finish_reason, score_logprobs
from judged
anti join verdicts using (judgment_id)
