-- Grain: one row per published prompt that shares $run consecutive words with a text in an
-- evaluation set, or that equals a text with fewer words. A prompt with several messages is
-- compared message by message and as a whole.
-- Reads: evaluation, gate_prompts, prompts
-- Parameters: run
with prompt_texts as (
    select prompt_id, prompt as text from gate_prompts
    union all
    select prompt_id, unnest(list_transform(messages, lambda message: message.content)) as text
    from prompts
),

published as (
    select distinct prompt_id, regexp_extract_all(lower(text), '[\p{L}\p{N}]+') as words
    from prompt_texts
    where text is not null
),

texts as (select distinct regexp_extract_all(lower(text), '[\p{L}\p{N}]+') as words from evaluation),

runs_of_texts as (
    select distinct hash(words[place:place + $run - 1]) as run_hash
    from texts, unnest(range(1, greatest(len(words) - $run, 0) + 2)) as starts(place)
    where words != []
),

runs_of_prompts as (
    select prompt_id, words, words[place:place + $run - 1] as run_words
    from
        published,
        unnest(range(1, greatest(len(words) - $run, 0) + 2)) as starts(place)
    where words != []
)

select
    'prompts' as config,
    prompt_id as id,
    left(any_value(array_to_string(run_words, ' ')), 60) as what
from runs_of_prompts
semi join runs_of_texts on run_hash = hash(run_words)
group by prompt_id
order by id
