-- The first pair of which a side has no text: no message, or a message whose role or content is not
-- a string. Only the content of a message with tool calls may be missing.
-- Grain: one row, or none.
-- Reads: numbered_pairs
with sides as (
    select split, place, 'prompt' as side, list_transform(prompt, lambda each: each::json) as said
    from numbered_pairs
    union all
    select split, place, 'chosen', list_transform(chosen, lambda each: each::json)
    from numbered_pairs
    union all
    select split, place, 'rejected', list_transform(rejected, lambda each: each::json)
    from numbered_pairs
)

select split, place, side
from sides
where said is null
    or said = []
    or not list_bool_and(
        list_transform(
            said,
            lambda message: coalesce(
                json_type(message, '$.role') = 'VARCHAR'
                and (
                    json_type(message, '$.content') = 'VARCHAR'
                    or (
                        coalesce(json_type(message, '$.content'), 'NULL') = 'NULL'
                        and json_type(message, '$.tool_calls') = 'ARRAY'
                    )
                ),
                false
            )
        )
    )
order by split desc, place, side
limit 1
