-- Grain: one row per judgment that counts toward a score in one iteration and split, with its
-- verdict. A failed judgment has no verdict.
-- Reads: judgments, panel, placed, verdicts
-- Parameters: iteration, split
with judged as (
    select
        placed.sample_id,
        placed.prompt_id,
        placed.iteration,
        placed.split,
        panel.parser_key,
        any_value(panel.judge_key) as judge_key,
        max(panel.n_judge_draws) as n_judge_draws
    from placed
    join panel
        on panel.iteration = placed.iteration
        and panel.role = placed.role
        and panel.name = placed.name
    where placed.iteration = $iteration and placed.split = $split
    group by placed.sample_id, placed.prompt_id, placed.iteration, placed.split, panel.parser_key
)

select
    judgments.*,
    judged.prompt_id,
    judged.iteration,
    judged.split,
    judged.parser_key,
    verdicts.score,
    verdicts.expected_score,
    verdicts.reason
from judged
join judgments
    on judgments.sample_id = judged.sample_id
    and judgments.judge_key = judged.judge_key
    and judgments.draw < judged.n_judge_draws
left join verdicts
    on verdicts.judgment_id = judgments.judgment_id
    and verdicts.parser_key = judged.parser_key
order by
    judged.prompt_id,
    judgments.sample_id,
    judged.parser_key,
    judgments.other_id,
    judgments.draw
