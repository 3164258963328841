-- Grain: one row a candidate, without its text: what pairs are chosen by. The score is the one that
-- decides.
select
    iteration,
    prompt_id,
    split,
    role,
    sample_id,
    draw,
    if(decides = 'expected', expected_score, score) as score,
    spread,
    n_judgments,
    model,
    n_prompt_tokens,
    n_tokens,
    finish_reason,
    true as may_be_chosen,
    true as may_be_rejected,
    []::double[] as votes
from candidates, pair_settings
