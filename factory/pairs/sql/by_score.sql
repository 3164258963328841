-- Grain: one row per eligible candidate, with what orders a role's candidates from the best and
-- from the worst: the score.
-- Reads: eligible
select *, -score as from_best, score as from_worst
from eligible
