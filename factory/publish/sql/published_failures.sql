-- Grain: one row: the judgments, those that failed or from which no score could be read.
-- Reads: judged
select count(*) as judgments, count(*) filter (score is null) as without_score
from judged
