-- Grain: one row per judgment of the step without a verdict. Failed judgments get no verdict.
-- Reads: judgments, scope_placed, step, verdicts
with judged as (
    select judgments.*
    from judgments
    semi join scope_placed using (sample_id), step
    where judgments.error is null and judgments.draw < step.n_draws
)

select judgment_id, sample_id, draw, judge_key as judge, text, value, finish_reason, score_logprobs
from judged
anti join verdicts using (judgment_id)
