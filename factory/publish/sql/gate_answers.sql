-- Grain: one row per published answer of a dataset without rejected answers, and configuration, with
-- the columns of gate_pairs.
-- Reads: pair_files
select
    config,
    pair_id,
    prompt_id,
    sample_id as chosen_id,
    null::varchar as rejected_id,
    score as score_chosen,
    null::double as score_rejected,
    license,
    bare(completion[-1].content) as chosen,
    null::varchar as rejected,
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
