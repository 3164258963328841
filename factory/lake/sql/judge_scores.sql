-- Grain: one row per sample in a role and judge, with the judge's score of the sample. `pair_score`
-- is the expected score if the pairs rank by this judge's expected scores, else the score.
-- Reads: panel, placed, scores
select
    placed.iteration,
    placed.role,
    placed.name,
    placed.prompt_id,
    placed.sample_id,
    placed.draw,
    panel.judge_name,
    panel.title,
    panel.judge_model,
    panel.parser_key,
    scores.score,
    scores.expected_score,
    if(panel.ranks_by = 'expected_score', scores.expected_score, scores.score) as pair_score,
    scores.spread,
    scores.n_judgments,
    scores.n_unparsed
from placed
join panel
    on panel.iteration = placed.iteration
    and panel.role = placed.role
    and panel.name = placed.name
left join scores
    on scores.sample_id = placed.sample_id
    and scores.parser_key = panel.parser_key
    and scores.n_judge_draws = panel.n_judge_draws
