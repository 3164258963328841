-- Grain: one row per prompt that is in both splits, with the same ID or the same words.
-- Reads: gate_prompts
with prompts_of_splits as (
    select distinct
        split,
        prompt_id,
        trim(regexp_replace(lower(prompt), '[^\p{L}\p{N}]+', ' ', 'g')) as words
    from gate_prompts
)

select distinct 'prompts' as config, train.prompt_id as id, left(train.words, 60) as what
from prompts_of_splits as train
join prompts_of_splits as test
    on train.split = 'train' and test.split = 'test'
    and (train.prompt_id = test.prompt_id or (train.words = test.words and train.words != ''))
order by id
