-- Grain: one row per eligible candidate, with its sort keys for choosing (best first) and
-- rejecting (worst first). Both keys are the score.
-- Reads: eligible
select *, -score as from_best, score as from_worst
from eligible
