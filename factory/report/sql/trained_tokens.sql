-- Grain: one row, with the number of tokens that a training reads in one pass over a build's pairs.
-- Reads: pairs_shards
select
    coalesce(
        sum(2 * coalesce(prompt_tokens, 0) + coalesce(chosen_tokens, 0) + coalesce(rejected_tokens, 0)),
        0
    )::bigint as tokens
from pairs_shards
where outcome = 'kept' and split = 'train'
