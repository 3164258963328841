-- Does the judge prefer longer answers? The query correlates `pair_score` and `n_tokens` over
-- `candidates`: `pearson` by value and `spearman` by rank. `within_prompts` is the Pearson
-- correlation after the mean of each prompt is subtracted from both, so prompts that require long
-- answers do not distort it. A correlation is NULL if all scores or all lengths are equal.
-- Grain: one row per iteration, role, model, and judge, over answers with a score and a length.
-- Reads: candidates, judges
with scored as (
    select
        candidates.iteration,
        candidates.role,
        candidates.name,
        judges.title as judge,
        candidates.prompt_id,
        candidates.pair_score as score,
        candidates.n_tokens
    from candidates
    join judges using (parser_key)
    where candidates.pair_score is not null and candidates.n_tokens is not null
),

-- Equal values get the mean of their ranks.
ranked as (
    select
        *,
        mean_rank(
            rank() over (partition by iteration, role, name, judge order by score),
            count(*) over (partition by iteration, role, name, judge, score)
        ) as score_rank,
        mean_rank(
            rank() over (partition by iteration, role, name, judge order by n_tokens),
            count(*) over (partition by iteration, role, name, judge, n_tokens)
        ) as length_rank,
        score - avg(score) over (partition by iteration, role, name, judge, prompt_id)
            as score_in_prompt,
        n_tokens - avg(n_tokens) over (partition by iteration, role, name, judge, prompt_id)
            as length_in_prompt
    from scored
),

-- The mean of equal numbers may differ from them by a rounding error, which is not variation.
correlated as (
    select
        iteration,
        role,
        name,
        judge,
        count(*) as answers,
        avg(n_tokens) as mean_tokens,
        min(score) < max(score) and min(n_tokens) < max(n_tokens) as both_vary,
        max(abs(score_in_prompt)) > 1e-9 and max(abs(length_in_prompt)) > 1e-9
            as both_vary_in_prompts,
        corr(score, n_tokens) as pearson,
        corr(score_rank, length_rank) as spearman,
        corr(score_in_prompt, length_in_prompt) as within_prompts
    from ranked
    group by iteration, role, name, judge
)

select
    iteration,
    role,
    name,
    judge,
    answers,
    round(mean_tokens, 1) as mean_tokens,
    if(both_vary, round(pearson, 3), null) as pearson,
    if(both_vary, round(spearman, 3), null) as spearman,
    if(both_vary_in_prompts, round(within_prompts, 3), null) as within_prompts
from correlated
order by iteration, role, name, judge
