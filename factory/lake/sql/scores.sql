-- Grain: one row per sample, parser, and number of draws, with the score from its verdicts.
-- The score is the mean of the valid verdicts. Without a valid verdict it is NULL, never a made-up
-- number. Expected scores count only for verdicts with a score: in a judgment with several scores,
-- the probabilities belong to the first text that looks like a score.
-- Scores are sorted before they are added, so the same verdicts have exactly the same mean.
-- Reads: panel, verdicts
with draws as (select distinct parser_key, n_judge_draws from panel),

counted as (
    select
        verdicts.parser_key,
        draws.n_judge_draws,
        verdicts.sample_id,
        count(*) as n_verdicts,
        list_sort(list(score) filter (score is not null)) as valid,
        list_sort(
            list(expected_score) filter (score is not null and expected_score is not null)
        ) as expected
    from verdicts
    join draws on draws.parser_key = verdicts.parser_key and verdicts.draw < draws.n_judge_draws
    group by verdicts.parser_key, draws.n_judge_draws, verdicts.sample_id
)

select
    parser_key,
    n_judge_draws,
    sample_id,
    list_avg(valid) as score,
    list_avg(expected) as expected_score,
    list_stddev_pop(valid) as spread,
    coalesce(len(valid), 0)::int as n_judgments,
    (n_verdicts - coalesce(len(valid), 0))::int as n_unparsed
from counted
