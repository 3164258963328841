-- Grain: one row with the number of judgments, and how many of them failed or have no valid score.
-- Reads: judged
select count(*) as judgments, count(*) filter (score is null) as without_score
from judged
