-- Pairs with an answer that occurs in the text which Axolotl 0.19 puts before it in the template.
-- Grain: one row in all.
-- Reads: dataset
select count(*) as n, min(chosen[1].content || ' / ' || rejected[1].content) as example
from dataset
where contains('[[dummy_message]]', chosen[1].content)
    or contains('[[dummy_message]]', rejected[1].content)
