-- Grain: one row a sample in a role, with its score by that role's judge and parser.
select
    placed.*,
    scores.score,
    scores.expected_score,
    scores.spread,
    scores.n_judgments,
    scores.n_unparsed
from placed
left join scores on scores.sample_id = placed.sample_id and scores.parser = placed.parser
