-- Why judgments have no score, by the reason in `verdicts` up to its colon, and its share of all
-- verdicts; up to three examples are the first 200 characters of the judge's text in `judgments`,
-- or its number.
-- Grain: one row per iteration, role, model, judge and reason.
-- Reads: judgments, panel, placed, verdicts
with counted as (
    select
        placed.iteration,
        placed.role,
        placed.name,
        panel.title as judge,
        verdicts.judgment_id,
        verdicts.judge_key,
        verdicts.score,
        split_part(verdicts.reason, ':', 1) as reason,
        count(*) over (
            partition by placed.iteration, placed.role, placed.name, panel.title
        ) as n_verdicts
    from placed
    join panel using (iteration, role, name)
    join verdicts
        on verdicts.sample_id = placed.sample_id
        and verdicts.parser_key = panel.parser_key
        and verdicts.draw < panel.n_judge_draws
)

select
    counted.iteration,
    counted.role,
    counted.name,
    counted.judge,
    counted.reason,
    count(*) as failures,
    round(count(*) / any_value(counted.n_verdicts), 4) as share,
    arg_min(
        left(coalesce(judgments.text, judgments.value::varchar), 200), counted.judgment_id, 3
    ) as examples
from counted
join judgments using (judgment_id, judge_key)
where counted.score is null
group by
    counted.iteration, counted.role, counted.name, counted.judge, counted.reason
order by
    counted.iteration,
    counted.role,
    counted.name,
    counted.judge,
    failures desc,
    counted.reason
