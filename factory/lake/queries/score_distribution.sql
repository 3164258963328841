-- How the scores in `candidates`, each the mean of its judge's draws, are distributed: a histogram
-- whose bins are 1, 2 or 5 times a power of ten wide, ten to twenty-five over all scores (the
-- probe's apart), empty ones left out.
-- Grain: one row per iteration, role, model, judge and bin, from from_score to below to_score.
-- Reads: candidates, judges
with scored as (
    select
        candidates.iteration,
        candidates.role,
        candidates.name,
        judges.title as judge,
        candidates.role = 'probe' as of_probe,
        candidates.score
    from candidates
    join judges using (parser_key)
    where candidates.score is not null
),

tenths as (
    select of_probe, (max(score) - min(score)) / 10 as tenth
    from scored
    group by of_probe
),

powers as (
    select *, pow(10, floor(log10(nullif(tenth, 0)))) as power
    from tenths
),

widths as (
    select
        of_probe,
        case
            when power is null then 1
            when round(tenth / power, 6) >= 5 then 5 * power
            when round(tenth / power, 6) >= 2 then 2 * power
            else power
        end as width
    from powers
),

-- Rounded, since 0.3 / 0.1 is less than 3.
binned as (
    select *, floor(round(score / width, 6)) as bin
    from scored
    join widths using (of_probe)
),

counted as (
    select iteration, role, name, judge, width, bin, count(*) as answers
    from binned
    group by iteration, role, name, judge, width, bin
),

shared as (
    select *, answers / sum(answers) over (partition by iteration, role, name, judge) as share
    from counted
)

select
    iteration,
    role,
    name,
    judge,
    round(bin * width, 6) as from_score,
    round((bin + 1) * width, 6) as to_score,
    answers,
    round(share, 3) as share,
    repeat('▇', round(30 * share)::int) as histogram
from shared
order by iteration, role, name, judge, from_score
