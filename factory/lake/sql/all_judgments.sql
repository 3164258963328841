-- Grain: one row per row in the shards of judgments. The view `judgments` uses this query if no row
-- needs to be left out.
-- Reads: judgments_shards
select * exclude (filename, file_row_number) rename (judge as judge_key)
from judgments_shards
