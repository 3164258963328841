-- Grain: one row per pair whose answers share at least $most_similar of their words. A pair in both
-- phases is compared once and reported for the later phase.
-- Reads: gate_pairs
-- Parameters: most_similar
with pairs_of_texts as (
    select max(config) as config, pair_id, chosen, rejected
    from gate_pairs
    where chosen != rejected and chosen != '' and rejected != ''
    group by pair_id, chosen, rejected
),

compared as (select *, similarity(chosen, rejected) as shared from pairs_of_texts)

select config, pair_id as id, round(shared, 2) || ': ' || left(chosen, 60) as what
from compared
where shared >= $most_similar
order by config, id
