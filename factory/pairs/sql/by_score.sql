-- Grain: one row an eligible candidate, with what orders a role's candidates from the best and from
-- the worst: the score.
select *, -score as from_best, score as from_worst
from eligible
