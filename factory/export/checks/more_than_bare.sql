-- The numbers of prompts with tools, tool calls, and reasoning, which a dataset cannot store. Only
-- the prompts of kept final pairs and of current candidates are counted.
-- Grain: one row.
-- Reads: candidates, final_pairs, prompts
with needed as (
    select distinct prompt_id from final_pairs where outcome = 'kept'
    union
    select distinct prompt_id from candidates where role = 'current'
),

messages as (
    select prompt_id, unnest(messages) as message
    from prompts
    semi join needed using (prompt_id)
)

select
    (
        select count(*) from prompts semi join needed using (prompt_id) where tools is not null
    ) as tools,
    (
        select count(distinct prompt_id)
        from messages
        where message.tool_calls is not null or message.tool_call_id is not null
    ) as tool_calls,
    (
        select count(distinct prompt_id) from messages where message.reasoning is not null
    ) as reasoning
