-- Does a judge that compares two answers prefer the one that is shown first? `for_first` is the
-- mean preference for the first answer, where 0.5 means no bias. `ties` is the share of ties, and
-- `orders_agree` the share of comparisons with the same result in both orders. The query reads
-- `verdicts` on `judgments` that have an `other_id`.
-- Grain: one row per iteration, role, model, and judge.
-- Reads: judgments, panel, placed, verdicts
with compared as (
    select
        placed.iteration,
        placed.role,
        placed.name,
        panel.title as judge,
        judgments.sample_id,
        judgments.other_id,
        verdicts.draw,
        verdicts.score
    from placed
    join panel using (iteration, role, name)
    join judgments
        on judgments.judge_key = panel.judge_key
        and judgments.sample_id = placed.sample_id
        and judgments.other_id is not null
    join verdicts
        on verdicts.judgment_id = judgments.judgment_id
        and verdicts.parser_key = panel.parser_key
        and verdicts.draw < panel.n_judge_draws
    where verdicts.score is not null
),

-- Draws 0 and 1 are the two orders of one comparison, and draws 2 and 3 those of the next one.
in_both_orders as (
    select
        iteration,
        role,
        name,
        judge,
        sum(if(draw % 2 = 0, score, 1 - score)) as for_first,
        count(*) as n,
        count(*) filter (score = 0.5) as ties,
        if(count(*) = 2, (min(score) = max(score))::int, null) as agree
    from compared
    group by iteration, role, name, judge, sample_id, other_id, draw // 2
)

select
    iteration,
    role,
    name,
    judge,
    sum(n)::bigint as judgments,
    round(sum(for_first) / sum(n), 3) as for_first,
    round(sum(ties) / sum(n), 3) as ties,
    round(avg(agree), 3) as orders_agree
from in_both_orders
group by iteration, role, name, judge
order by iteration, role, name, judge
