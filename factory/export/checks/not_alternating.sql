-- The number of pairs whose prompt does not alternate between user and assistant, and an example. A
-- system message may come first, and the last message must be the user's.
-- Grain: one row.
-- Reads: dataset
select count(*) as n, min(prompt[1].content) as example
from dataset
where not regexp_full_match(
    list_aggregate(list_transform(prompt, lambda message: message.role), 'string_agg', ' '),
    '(system )?(user assistant )*user'
)
