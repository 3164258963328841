-- Grain: one row per published pair and control token in one of its texts.
-- Reads: control_tokens, gate_pairs
-- Parameters: control_pattern
with texts as (
    select
        config,
        pair_id,
        translate(
            regexp_replace(concat_ws(' ', prompt, chosen, rejected), '\p{Cf}', '', 'g'), '｜▁', '|_'
        ) as text
    from gate_pairs
),

tokens as (select token, translate(token, '｜▁', '|_') as written from control_tokens)

select config, pair_id as id, token as what
from texts
join tokens on contains(text, written)
union
select config, pair_id, unnest(regexp_extract_all(text, $control_pattern))
from texts
order by config, id, what
