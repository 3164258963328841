-- How large is the score gap between chosen and rejected answers, and does it shrink over the
-- iterations? The query shows the mean and the 10th, 50th, and 90th percentiles of the margins of
-- kept pairs in `pairs`. `collapse_ratio` is the mean gap of the first iteration divided by the
-- mean gap of this iteration. A value above 1 means that the gap has shrunk.
-- Grain: one row per iteration, phase, and pair of roles; the rows with the role `all` cover all
-- kept pairs.
-- Reads: pairs
with measured as (
    select
        iteration,
        phase,
        chosen_role,
        rejected_role,
        grouping(chosen_role) = 1 as of_all_roles,
        count(*) filter (outcome = 'kept') as kept,
        avg(margin) filter (outcome = 'kept') as mean_gap,
        quantile_cont(margin, [0.1, 0.5, 0.9]) filter (outcome = 'kept') as quantiles
    from pairs
    group by grouping sets ((iteration, phase), (iteration, phase, chosen_role, rejected_role))
),

by_roles as (
    select
        * replace (
            if(of_all_roles, 'all', chosen_role) as chosen_role,
            if(of_all_roles, 'all', rejected_role) as rejected_role
        )
    from measured
    where of_all_roles or kept > 0
),

in_first_iteration as (
    select phase, chosen_role, rejected_role, mean_gap as first_gap
    from by_roles
    where iteration = (select min(iteration) from pairs)
)

select
    iteration,
    phase,
    chosen_role,
    rejected_role,
    kept,
    round(mean_gap, 3) as mean_gap,
    round(quantiles[1], 3) as p10,
    round(quantiles[2], 3) as median,
    round(quantiles[3], 3) as p90,
    round(first_gap / mean_gap, 3) as collapse_ratio
from by_roles
left join in_first_iteration using (phase, chosen_role, rejected_role)
order by iteration, phase, of_all_roles desc, chosen_role, rejected_role
