-- Grain: one row per prompt of the recipe, with its split and its iteration.
-- Split and iteration hash the prompt's ID with different salts. With a single hash, every test
-- prompt would fall into the same iteration. Prompts of the probe have no iteration.
-- The two contexts hash the fields that a judge may see in addition to the messages. If the
-- reference changes, earlier judgments no longer belong to the prompt's samples.
-- Reads: probe_shards, prompts_shards, recipe_settings
with recipe as (select * from recipe_settings),

loop_prompts as (
    select
        shards.* exclude (filename),
        if(share_of('split', prompt_id) < test_fraction, 'test', 'train') as split,
        floor(share_of('iteration', prompt_id) * chunks)::int as iteration
    from prompts_shards as shards, recipe
),

probe_prompts as (
    select shards.* exclude (filename), 'probe' as split, null::int as iteration
    from probe_shards as shards
),

all_prompts as (
    select * from loop_prompts
    union all
    select * from probe_prompts
)

select
    *,
    row_id(reference, criteria, '') as context,
    row_id(reference, criteria, coalesce(meta, '')) as context_with_meta
from all_prompts
