-- Grain: one row per sample in a role, with its score by the recipe's `judge` (the probe's by its own).
-- Reads: placed, scores
select
    placed.* exclude (n_judge_draws),
    scores.score,
    scores.expected_score,
    scores.spread,
    scores.n_judgments,
    scores.n_unparsed
from placed
left join scores
    on scores.sample_id = placed.sample_id
    and scores.parser_key = placed.parser_key
    and scores.n_judge_draws = placed.n_judge_draws
