-- Grain: one row per sample, parser and number of draws: what its verdicts come to.
-- The score is the mean over the valid verdicts; NULL where there is none, never a made-up number.
-- An expected score counts where the verdict has a score: of a judgment with several, it would be
-- that of the first place that looks like one.
-- Summed in the order of the scores, so that the same verdicts have the same mean to the last bit.
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
