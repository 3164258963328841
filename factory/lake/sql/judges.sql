-- Grain: one row a parser: whose judgments it reads, under the first of their names.
-- The name is a model's (M_0, …), that of a judge with a model of its own, or `function`.
select
    parser,
    min(judge) as judge,
    min(title) as judge_name,
    min(judge_model) as judge_model,
    max(n_judge_draws) as n_judge_draws
from panel
where parser is not null
group by parser
