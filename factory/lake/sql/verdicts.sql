-- Grain: one row a verdict: (parser, judgment).
-- Verdicts of judgments that were lost and made again with another text belong to no judgment
-- and are left out.
from made_once('verdicts_shards', (parser, judgment_id), false)
semi join judgments using (judgment_id)
