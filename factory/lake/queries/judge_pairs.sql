-- How well do two judges agree? The query compares `pair_score` in `judge_scores`, over the answers
-- that both judges scored. `equal_scores` is the share of equal scores after rounding to whole
-- numbers, and `spearman` the rank correlation over all answers. `kendall_tau` is the mean of
-- Kendall's tau-b within each prompt, and `same_order` the share of pairs of answers that both
-- judges rank in the same order, among the pairs that neither judge ties. If one judge knows the
-- correct scores, this measures the quality of the other judge. With `by: previous`, it measures
-- the consistency of two generations (CREAM, arXiv 2410.12735). Judges that share the same
-- judgments are not compared.
-- Grain: one row per iteration and pair of judges, without the probe.
-- Reads: judge_scores
with scored as (
    select distinct
        iteration, prompt_id, sample_id, judge_name, parser_key, pair_score as score
    from judge_scores
    where role != 'probe' and pair_score is not null
),

both_scored as (
    select
        one.iteration,
        one.prompt_id,
        one.sample_id,
        one.judge_name as judge,
        two.judge_name as other,
        one.score,
        two.score as other_score
    from scored as one
    join scored as two using (iteration, prompt_id, sample_id)
    where one.parser_key != two.parser_key
        and if(
            'judge' in (one.judge_name, two.judge_name),
            one.judge_name = 'judge',
            one.judge_name < two.judge_name
        )
),

-- Equal scores get the mean of their ranks.
ranked as (
    select
        *,
        mean_rank(
            rank() over (partition by iteration, judge, other order by score),
            count(*) over (partition by iteration, judge, other, score)
        ) as place,
        mean_rank(
            rank() over (partition by iteration, judge, other order by other_score),
            count(*) over (partition by iteration, judge, other, other_score)
        ) as other_place
    from both_scored
),

over_answers as (
    select
        iteration,
        judge,
        other,
        count(*) as answers,
        round(avg((round(score) = round(other_score))::int), 3) as equal_scores,
        if(
            min(score) < max(score) and min(other_score) < max(other_score),
            round(corr(place, other_place), 3),
            null
        ) as spearman
    from ranked
    group by iteration, judge, other
),

ordered as (
    select
        iteration,
        judge,
        other,
        prompt_id,
        sign(one.score - two.score) as sign,
        sign(one.other_score - two.other_score) as other_sign
    from both_scored as one
    join both_scored as two using (iteration, judge, other, prompt_id)
    where one.sample_id < two.sample_id
),

in_prompts as (
    select
        iteration,
        judge,
        other,
        sum(sign * other_sign)
        / nullif(sqrt(sum(abs(sign)) * sum(abs(other_sign))), 0) as tau,
        count(*) filter (sign * other_sign > 0) as alike,
        count(*) filter (sign * other_sign != 0) as untied
    from ordered
    group by iteration, judge, other, prompt_id
),

over_prompts as (
    select
        iteration,
        judge,
        other,
        count(tau) as prompts,
        round(avg(tau), 3) as kendall_tau,
        round(sum(alike) / nullif(sum(untied), 0), 3) as same_order
    from in_prompts
    group by iteration, judge, other
)

select
    iteration,
    judge,
    other,
    answers,
    equal_scores,
    spearman,
    coalesce(prompts, 0) as prompts,
    kendall_tau,
    same_order
from over_answers
left join over_prompts using (iteration, judge, other)
order by iteration, judge, other
