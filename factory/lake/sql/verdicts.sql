-- Grain: one row per verdict: (parser, judgment).
-- Verdicts on judgments that were lost and made again with another text belong to no judgment and
-- are left out.
-- Reads: judgments, verdicts_shards
select * rename (judge as judge_key, parser as parser_key)
from made_once('verdicts_shards', (parser, judgment_id), false)
semi join judgments using (judgment_id)
