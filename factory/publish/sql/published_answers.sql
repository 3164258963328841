-- Grain: one row per selected answer of a policy without a rejected side, with the columns of a
-- published dataset (ANSWER_COLUMNS).
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
    chosen_id as sample_id,
    source,
    license
from pair_rows
order by prompt_id, pair_id
