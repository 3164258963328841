-- Grain: one row: the number of tokens that a model reads when it is trained on a build's pairs once.
-- Reads: pairs_shards
select
    coalesce(
        sum(2 * coalesce(prompt_tokens, 0) + coalesce(chosen_tokens, 0) + coalesce(rejected_tokens, 0)),
        0
    )::bigint as tokens
from pairs_shards
where outcome = 'kept' and split = 'train'
