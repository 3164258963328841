-- Grain: one row per prompt that is in both splits: with the same ID, with the same words of the
-- user, or with the same last message of the user (if it has at least 20 characters).
-- Reads: gate_prompts
with prompt_texts as (
    select split, prompt_id, prompt, unnest([prompt, user_text, if(length(last_turn) >= 20, last_turn, '')])
        as text
    from gate_prompts
),

prompts_of_splits as (
    select distinct
        split,
        prompt_id,
        trim(regexp_replace(lower(regexp_replace(text, '\p{Cf}', '', 'g')), '[^\p{L}\p{M}\p{N}]+', ' ', 'g'))
            as words
    from prompt_texts
)

select 'prompts' as config, train.prompt_id as id, left(any_value(train.words), 60) as what
from prompts_of_splits as train
join prompts_of_splits as test
    on train.split = 'train' and test.split = 'test'
    and (train.prompt_id = test.prompt_id or (train.words = test.words and train.words != ''))
group by train.prompt_id
order by id
