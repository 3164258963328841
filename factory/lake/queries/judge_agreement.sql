-- Does a judge give the same answer the same score each time? The query compares the judge's draws
-- for each sample with at least two valid `verdicts`. If the pairs rank by expected scores, it
-- compares those. `all_equal` is the share of samples whose scores are all equal, `pairwise_equal`
-- the share of equal scores among pairs of verdicts on the same sample, and `mean_spread` the mean
-- population standard deviation. `krippendorff_alpha` is Krippendorff's alpha with squared
-- differences (Computing Krippendorff's Alpha-Reliability, 2011): 1 is perfect agreement, 0 is
-- chance, and NULL means that all scores are equal.
-- Grain: one row per iteration, role, model, and judge.
-- Reads: panel, placed, verdicts
with counted as (
    select
        placed.iteration,
        placed.role,
        placed.name,
        panel.title as judge,
        placed.sample_id,
        if(panel.ranks_by = 'expected_score', verdicts.expected_score, verdicts.score) as draw_score
    from placed
    join panel using (iteration, role, name)
    join verdicts
        on verdicts.sample_id = placed.sample_id
        and verdicts.parser_key = panel.parser_key
        and verdicts.draw < panel.n_judge_draws
    where draw_score is not null
),

in_samples as (
    select
        *,
        count(*) over of_sample as n,
        count(*) over (partition by iteration, role, name, judge, sample_id, draw_score) as n_equal,
        stddev_pop(draw_score) over of_sample as spread,
        var_samp(draw_score) over of_sample as variance
    from counted
    window of_sample as (partition by iteration, role, name, judge, sample_id)
)

-- Each row is one verdict. Weights of 1 / n count every sample once. The mean variance within
-- samples is half of the observed disagreement, and the variance over all verdicts is half of the
-- expected disagreement.
select
    iteration,
    role,
    name,
    judge,
    count(distinct sample_id) as samples,
    count(*) as verdicts,
    round(sum((n_equal = n)::int / n) / sum(1 / n), 3) as all_equal,
    round(sum(n_equal - 1) / sum(n - 1), 3) as pairwise_equal,
    round(sum(spread / n) / sum(1 / n), 3) as mean_spread,
    if(
        min(draw_score) < max(draw_score), round(1 - avg(variance) / var_samp(draw_score), 3), null
    )
        as krippendorff_alpha
from in_samples
where n > 1
group by iteration, role, name, judge
order by iteration, role, name, judge
