-- Grain: one row per sample in a role, with its score. The recipe's `judge` scores every role
-- except the probe, which has its own judge.
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
