-- Grain: one row per source and license of the published prompts, with the number of kept pairs.
-- An undeclared source or license is NULL.
-- Reads: final_pairs, prompts
with kept as (
    select prompt_id, count(*) as pairs
    from final_pairs
    where outcome = 'kept'
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
