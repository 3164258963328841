-- Grain: one row per token limit, with the number of training pairs whose prompt and longer answer
-- exceed it.
-- Reads: final_pairs
with limits as (select unnest([512, 1024, 2048, 4096]) as max_length)

select
    max_length,
    count(*) filter (
        prompt_tokens + greatest(chosen_tokens, rejected_tokens) > max_length
    ) as pairs_longer,
    count(*) as pairs
from limits, final_pairs
where outcome = 'kept' and split = 'train'
group by max_length
order by max_length
