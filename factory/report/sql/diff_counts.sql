-- Grain: one row per status and reason in `diff`, with the number of pairs.
-- Reads: diff
select status, reason, count(*) as pairs
from diff
group by status, reason
order by
    list_position(
        ['same', 'gained', 'lost', 'flipped', 'changed chosen', 'changed rejected', 'changed both'],
        status
    ),
    pairs desc,
    reason
