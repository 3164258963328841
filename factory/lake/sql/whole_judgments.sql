-- Grain: a single row. `is_whole` is true if the shards have no duplicate judgments and no judgment
-- depends on a context or a rival, so that the view keeps every row. See whole_samples.sql for
-- hashes.
-- Reads: judgments_shards
select
    count(*) = count(distinct hash(judge, request_id, draw))
        and count(*) filter (context != '' or other_id is not null) = 0 as is_whole
from judgments_shards
