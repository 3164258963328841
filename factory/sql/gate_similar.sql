-- Grain: one row a published pair whose sides are almost the same text: the words that they share
-- are nearly all of their words.
select
    config,
    pair_id as id,
    round(similarity(chosen, rejected), 2) || ': ' || left(chosen, 60) as what
from gate_pairs, gate_settings
where chosen != rejected
    and chosen != ''
    and rejected != ''
    and similarity(chosen, rejected) >= most_similar
order by config, id
