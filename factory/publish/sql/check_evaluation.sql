-- Grain: one row per published prompt that shares $run consecutive words with a text in an
-- evaluation set, or that contains a shorter text: a question of at least $min_words words or another
-- text of at least $min_words_of_text words anywhere, and any text as an entire message. In scripts
-- without spaces, each character is a word, and half a word towards these minimums. A prompt with
-- several messages is compared message by message and as a whole.
-- Reads: evaluation, gate_prompts, prompts
-- Parameters: min_words, min_words_of_text, run
with all_texts as (
    select null as prompt_id, text, regexp_matches(text, '[?？؟]\s*$') as is_question from evaluation
    union all
    select prompt_id, prompt, false from gate_prompts
    union all
    select
        prompt_id, unnest(list_transform(messages, lambda message: message.content)), false
    from prompts
),

spaced as (
    select
        prompt_id,
        is_question,
        regexp_replace(
            lower(strip_accents(regexp_replace(text, '\p{Cf}', '', 'g'))),
            '([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])',
            ' \1 ',
            'g'
        ) as text
    from all_texts
    where text is not null
),

split as (
    select distinct
        prompt_id,
        is_question,
        regexp_extract_all(text, '[\p{L}\p{M}\p{N}]+') as words,
        regexp_extract_all(
            text, '[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]'
        ) as characters
    from spaced
),

published as (select prompt_id, words from split where prompt_id is not null and words != []),

texts as (
    select words, len(words) - len(characters) / 2 as n_words, is_question
    from split
    where prompt_id is null and words != []
),

short_texts as (
    select distinct
        words,
        hash(words[1:3]) as start_hash,
        n_words >= if(is_question, $min_words, $min_words_of_text) as anywhere
    from texts
    where len(words) < $run
),

runs_of_texts as (
    select distinct hash(words[place:place + $run - 1]) as run_hash
    from texts, unnest(range(1, len(words) - $run + 2)) as starts(place)
    where len(words) >= $run
),

runs_of_prompts as (
    select prompt_id, words[place:place + $run - 1] as run_words
    from published, unnest(range(1, len(words) - $run + 2)) as starts(place)
    where len(words) >= $run
),

starts_of_prompts as (
    select prompt_id, words, place, hash(words[place:place + 2]) as start_hash
    from published, unnest(range(1, greatest(len(words) - 2, 1) + 1)) as starts(place)
),

shared as (
    select prompt_id, run_words as words
    from runs_of_prompts
    semi join runs_of_texts on run_hash = hash(run_words)
    union all
    select starts_of_prompts.prompt_id, short_texts.words
    from starts_of_prompts
    join short_texts
        on starts_of_prompts.start_hash = short_texts.start_hash
        and starts_of_prompts.words[place:place + len(short_texts.words) - 1] = short_texts.words
    where anywhere or starts_of_prompts.words = short_texts.words
)

select
    'prompts' as config,
    prompt_id as id,
    left(any_value(array_to_string(words, ' ')), 60) as what
from shared
group by prompt_id
order by id
