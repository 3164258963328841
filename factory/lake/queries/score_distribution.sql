-- How are the scores distributed? The query shows a histogram of `pair_score` in `candidates`, the
-- scores that the pairs rank by. The width of a bin is 1, 2, or 5 times a power of ten, so that all
-- scores together fill 10 to 25 bins. The probe has its own bin width. Empty bins are left out.
-- Grain: one row per iteration, role, model, judge, and bin, where a bin includes from_score and
-- excludes to_score.
-- Reads: candidates, judges
with scored as (
    select
        candidates.iteration,
        candidates.role,
        candidates.name,
        judges.title as judge,
        candidates.role = 'probe' as of_probe,
        candidates.pair_score as score
    from candidates
    join judges using (parser_key)
    where candidates.pair_score is not null
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

-- Rounded, because 0.3 / 0.1 is less than 3 in floating point.
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
