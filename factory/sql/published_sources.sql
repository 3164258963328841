-- Grain: one row a source and licence of the prompts of the kept D2 pairs; NULL where none was
-- declared.
with kept as (
    select distinct prompt_id, pair_id
    from pairs
    where phase = 'D2' and outcome = 'kept'
)

select
    prompts.source,
    prompts.license,
    count(distinct kept.prompt_id) as prompts,
    count(distinct kept.pair_id) as pairs
from kept
join prompts using (prompt_id)
group by all
order by prompts desc, source, license
