-- Grain: one row a sample, parser and number of draws: what its verdicts come to.
-- The score is the mean over the valid verdicts; NULL where there is none, never a made-up number.
-- An expected score counts where the verdict has a score: of a judgment with several, it would be
-- that of the first place that looks like one.
-- Summed in the order of the scores, so that the same verdicts have the same mean to the last bit.
with draws as (select distinct parser, n_judge_draws from panel),

counted as (
    select verdicts.*, draws.n_judge_draws
    from verdicts
    join draws on draws.parser = verdicts.parser and verdicts.draw < draws.n_judge_draws
)

select
    parser,
    n_judge_draws,
    sample_id,
    avg(score order by score) as score,
    avg(expected_score order by expected_score) filter (score is not null) as expected_score,
    stddev_pop(score order by score) as spread,
    count(score)::int as n_judgments,
    (count(*) - count(score))::int as n_unparsed
from counted
group by parser, n_judge_draws, sample_id
