-- Grain: one row: whether each judgment of the shards was made once, and with nothing of the prompt
-- beside its messages, so that the view leaves none out. As in whole_samples.sql.
-- Reads: judgments_shards
select
    count(*) = count(distinct hash(judge, request_id, draw))
        and count(*) filter (context != '' or other_id is not null) = 0 as is_whole
from judgments_shards
