-- What the prompts and answers of the kept D2 pairs, or of the candidates, hold that rows of bare
-- messages cannot carry.
-- Grain: one row in all.
-- Reads: candidates, pairs, prompts
with needed as (
    select distinct prompt_id from pairs where phase = 'D2' and outcome = 'kept'
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
