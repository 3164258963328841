-- Grain: one row per parser, with the judge whose judgments it reads. If a judge has several
-- titles, this is the first. A title is the name of a model (M_0, …), a name in `judges`, or
-- `function`.
-- Reads: panel
select
    parser_key,
    min(judge_key) as judge_key,
    min(title) as title,
    min(judge_model) as judge_model,
    max(n_judge_draws) as n_judge_draws,
    min(ranks_by) as ranks_by
from panel
where parser_key is not null
group by parser_key
