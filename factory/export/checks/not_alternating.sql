-- Pairs whose prompt is not a system message or none, then user and assistant in turn, ending with
-- user.
-- Grain: one row in all.
-- Reads: dataset
select count(*) as n, min(prompt[1].content) as example
from dataset
where not regexp_full_match(
    list_aggregate(list_transform(prompt, lambda message: message.role), 'string_agg', ' '),
    '(system )?(user assistant )*user'
)
