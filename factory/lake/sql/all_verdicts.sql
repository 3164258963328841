-- Grain: one row per row in the shards of verdicts. The view `verdicts` uses this query if no row
-- needs to be left out.
-- Reads: verdicts_shards
select * exclude (filename, file_row_number) rename (judge as judge_key, parser as parser_key)
from verdicts_shards
