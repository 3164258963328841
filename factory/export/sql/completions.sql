-- Grain: one row per selected answer of a policy without a rejected side (COMPLETION_COLUMNS).
-- Reads: pair_rows
select
    pair_id,
    prompt_id,
    iteration,
    prompt,
    tools,
    template_kwargs,
    chosen as completion,
    score_chosen as score,
    chosen_role as role,
    chosen_model as model,
    judge_model,
    n_judgments_chosen as n_judgments,
    prompt_tokens,
    chosen_tokens as completion_tokens,
    chosen_id as sample_id
from pair_rows
order by prompt_id, pair_id
