-- Grain: one row for a pairs step: the pairs that were considered, the ties, and three of them.
-- Reads: pairs_shards
select
    count(*) as n,
    count(*) filter (outcome = 'tie') as bad,
    min_by(
        'prompt ' || prompt_id || ', both sides ' || round(score_chosen, 3), prompt_id, 3
    ) filter (outcome = 'tie') as examples
from pairs_shards
