-- Grain: one row per eligible candidate, with its sort keys for choosing (best first) and
-- rejecting (worst first).
-- Length control of Meta-Rewarding (arXiv 2407.19594): among the candidates in the top rho of a
-- role's range of scores, the shortest comes first. Among those in the bottom rho, the longest
-- comes first. The other candidates follow by score.
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
