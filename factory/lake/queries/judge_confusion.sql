-- Where do two judges disagree? For each pair of scores from the two judges, the query counts the
-- answers in `judge_scores` with this combination. Scores (`pair_score`) are rounded to whole
-- numbers. `share` is relative to all answers with the same score by the first judge.
-- Grain: one row per iteration, pair of judges, and pair of scores, without the probe.
-- Reads: judge_scores
with scored as (
    select distinct iteration, sample_id, judge_name, parser_key, round(pair_score) as score
    from judge_scores
    where role != 'probe' and pair_score is not null
)

select
    one.iteration,
    one.judge_name as judge,
    two.judge_name as other,
    one.score,
    two.score as other_score,
    count(*) as answers,
    round(
        count(*)
        / sum(count(*)) over (
            partition by one.iteration, one.judge_name, two.judge_name, one.score
        ),
        3
    ) as share
from scored as one
join scored as two using (iteration, sample_id)
where one.parser_key != two.parser_key
    and if(
        'judge' in (one.judge_name, two.judge_name),
        one.judge_name = 'judge',
        one.judge_name < two.judge_name
    )
group by one.iteration, one.judge_name, two.judge_name, one.score, two.score
order by one.iteration, one.judge_name, two.judge_name, one.score, two.score
