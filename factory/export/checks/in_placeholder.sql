-- The number of pairs with an answer that is part of Axolotl's placeholder, and an example. Axolotl
-- 0.19 puts the placeholder into the chat template before the answer.
-- Grain: one row.
-- Reads: dataset
select count(*) as n, min(chosen[1].content || ' / ' || rejected[1].content) as example
from dataset
where contains('[[dummy_message]]', chosen[1].content)
    or contains('[[dummy_message]]', rejected[1].content)
