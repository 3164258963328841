-- Grain: as by_score.sql. Meta-Rewarding's length control (arXiv 2407.19594): chosen is the
-- shortest of those whose score lies in the top rho of a role's range, rejected the longest of
-- those in the bottom rho. The others follow by score.
-- Reads: eligible, pair_settings
with ranges as (
    select
        *,
        max(score) over (partition by prompt_id, role) as most,
        min(score) over (partition by prompt_id, role) as least
    from eligible
)

select
    ranges.* exclude (most, least),
    if(
        score >= (1 - rho) * most + rho * least, coalesce(n_tokens, 1e9) - 1e12, -score
    ) as from_best,
    if(
        score <= (1 - rho) * least + rho * most, -coalesce(n_tokens, 0) - 1e12, score
    ) as from_worst
from ranges, (select length_control as rho from pair_settings)
