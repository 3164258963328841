-- Grain: one row a judgment that counts, of a sample of one iteration and split, with its verdict;
-- a judgment that failed has none.
with judged as (
    select distinct
        placed.sample_id,
        placed.prompt_id,
        placed.iteration,
        placed.split,
        placed.parser
    from placed
    join part on part.iteration = placed.iteration and part.split = placed.split
)

select
    judgments.*,
    judged.prompt_id,
    judged.iteration,
    judged.split,
    judged.parser,
    verdicts.score,
    verdicts.expected_score,
    verdicts.reason
from judged
join judges on judges.parser = judged.parser
join judgments
    on judgments.sample_id = judged.sample_id
    and judgments.judge = judges.judge
    and judgments.draw < judges.n_judge_draws
left join verdicts
    on verdicts.judgment_id = judgments.judgment_id
    and verdicts.parser = judged.parser
order by judged.prompt_id, judgments.sample_id, judged.parser, judgments.draw
