-- Grain: one row per row of the shards of judgments, where the view judgments leaves none out.
-- Reads: judgments_shards
select * exclude (filename, file_row_number) rename (judge as judge_key)
from judgments_shards
