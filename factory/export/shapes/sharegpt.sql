-- The pair with ShareGPT's names for roles and fields. Each answer is a single message, not a list.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select
    list_transform(
        prompt,
        lambda message: {
            'from': case message.role
                when 'user' then 'human' when 'assistant' then 'gpt' else message.role
            end,
            'value': message.content
        }
    ) as conversations,
    {'from': 'gpt', 'value': chosen[1].content} as chosen,
    {'from': 'gpt', 'value': rejected[1].content} as rejected
from dataset
