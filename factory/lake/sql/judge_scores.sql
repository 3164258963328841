-- Grain: one row a sample in a role and judge: what each judge of the recipe makes of it.
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
    panel.parser,
    scores.score,
    scores.expected_score,
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
    and scores.parser = panel.parser
    and scores.n_judge_draws = panel.n_judge_draws
