-- Grain: one row per candidate, with the columns that affect the choice of pairs, without the
-- text.
-- Reads: decisions
select
    iteration,
    prompt_id,
    split,
    role,
    sample_id,
    draw,
    if(isfinite(deciding_score), deciding_score, null) as score,
    spread,
    deciding_judgments as n_judgments,
    model,
    n_prompt_tokens,
    n_tokens,
    finish_reason,
    may_be_chosen,
    may_be_rejected,
    votes
from decisions
