-- Grain: one row per verdict: (parser, judgment).
-- A verdict is left out if its judgment was lost, and regenerated with a different text.
-- Reads: judgments, verdicts_shards
select * rename (judge as judge_key, parser as parser_key)
from made_once('verdicts_shards', (parser, judgment_id), false)
semi join judgments using (judgment_id)
