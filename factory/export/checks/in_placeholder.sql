-- The number of pairs with an answer that is part of the placeholder that Axolotl 0.19 puts into the
-- chat template before the answer, and an example.
-- Grain: one row.
-- Reads: dataset
select count(*) as n, min(chosen[1].content || ' / ' || rejected[1].content) as example
from dataset
where contains('[[dummy_message]]', chosen[1].content)
    or contains('[[dummy_message]]', rejected[1].content)
