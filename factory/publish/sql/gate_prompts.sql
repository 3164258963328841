-- Grain: one row per published prompt, and one more if a pair has a different text for it.
-- Reads: gate_pairs, prompts
select
    prompt_id,
    split,
    license,
    array_to_string(list_transform(messages, lambda message: coalesce(message.content, '')), ' ')
        as prompt
from prompts
union
select prompt_id, split, license, prompt
from gate_pairs
