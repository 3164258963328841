-- Why do some judgments have no score? The query groups the `verdicts` without a score by the part
-- of their reason before the colon. `share` is relative to all verdicts. `examples` has up to three
-- judgments from `judgments`: the first 200 characters of the judge's text, or the number that it
-- returned.
-- Grain: one row per iteration, role, model, judge, and reason.
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
