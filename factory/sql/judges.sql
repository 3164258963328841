-- Grain: one row a parser: whose judgments it reads.
-- The name is a model's (M_0, …; `judge` for a fixed one) with its digest, or `function`.
with parsers as (
    select distinct parser, judge, n_judge_draws
    from roles
    where parser is not null
),

models_that_judge as (
    select judge, min(name) as name, min(model) as model
    from roles
    where role = 'judge'
    group by judge
)

select
    parsers.parser,
    parsers.judge,
    coalesce(models_that_judge.name, 'function') as judge_name,
    models_that_judge.model as judge_model,
    parsers.n_judge_draws
from parsers
left join models_that_judge using (judge)
