-- Grain: one row per eligible candidate, with its sort keys from the best and from the worst. Both
-- keys are the score.
-- Reads: eligible
select *, -score as from_best, score as from_worst
from eligible
