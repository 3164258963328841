-- Grain: one row per source and license of the published prompts, with the number of kept D2 pairs.
-- An undeclared source or license is NULL.
-- Reads: pairs, prompts
with kept as (
    select prompt_id, count(*) as pairs
    from pairs
    where phase = 'D2' and outcome = 'kept'
    group by prompt_id
)

select
    prompts.source,
    prompts.license,
    count(*) as prompts,
    coalesce(sum(kept.pairs), 0)::bigint as pairs
from prompts
left join kept using (prompt_id)
group by all
order by prompts desc, source, license
