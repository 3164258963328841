-- Grain: one row per parser: the judge whose judgments it reads, under the first of its titles.
-- The title is a model's (M_0, …), the name of one of `judges`, or `function`.
-- Reads: panel
select
    parser_key,
    min(judge_key) as judge_key,
    min(title) as title,
    min(judge_model) as judge_model,
    max(n_judge_draws) as n_judge_draws
from panel
where parser_key is not null
group by parser_key
