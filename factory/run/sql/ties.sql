-- Grain: one row for a pairs step: the number of considered pairs, the number of ties, and three ties.
-- Reads: pairs_shards
select
    count(*) as n,
    count(*) filter (outcome = 'tie') as bad,
    min_by(
        'prompt ' || prompt_id || ', both sides ' || round(score_chosen, 3), prompt_id, 3
    ) filter (outcome = 'tie') as examples
from pairs_shards
