-- Grain: one row: the number of training pairs that are longer than the trainer's max_length.
-- Reads: pairs_shards
-- Parameters: max_length
select count(*) as n
from pairs_shards
where
    outcome = 'kept'
    and split = 'train'
    and prompt_tokens + greatest(chosen_tokens, rejected_tokens) > $max_length
