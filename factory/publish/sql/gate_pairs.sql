-- Grain: one row per published pair and configuration, with the texts that the checks read.
-- Reads: pair_files
select
    config,
    pair_id,
    prompt_id,
    chosen_id,
    rejected_id,
    score_chosen,
    score_rejected,
    license,
    bare(chosen[-1].content) as chosen,
    bare(rejected[-1].content) as rejected,
    array_to_string(list_transform(prompt, lambda message: coalesce(message::json ->> 'content', '')), ' ')
        as prompt,
    coalesce(
        array_to_string(
            list_transform(
                list_filter(prompt, lambda message: message::json ->> 'role' = 'user'),
                lambda message: coalesce(message::json ->> 'content', '')
            ),
            ' '
        ),
        ''
    ) as user_text,
    coalesce(
        list_filter(prompt, lambda message: message::json ->> 'role' = 'user')[-1]::json ->> 'content', ''
    ) as last_turn,
    split
from pair_files
