-- Grain: one row per published prompt, and one more if a pair has a different text for it.
-- Reads: gate_pairs, prompts
select
    prompt_id,
    split,
    license,
    array_to_string(list_transform(messages, lambda message: coalesce(message.content, '')), ' ')
        as prompt,
    coalesce(
        array_to_string(
            list_transform(
                list_filter(messages, lambda message: message.role = 'user'),
                lambda message: coalesce(message.content, '')
            ),
            ' '
        ),
        ''
    ) as user_text,
    coalesce(list_filter(messages, lambda message: message.role = 'user')[-1].content, '')
        as last_turn
from prompts
union
select prompt_id, split, license, prompt, user_text, last_turn
from gate_pairs
