-- Grain: one row per row of the shards of verdicts, where the view verdicts leaves none out.
-- Reads: verdicts_shards
select * exclude (filename, file_row_number) rename (judge as judge_key, parser as parser_key)
from verdicts_shards
