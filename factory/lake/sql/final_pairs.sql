-- Grain: one row per considered pair of the final phase, which is exported and published. The phase
-- is D2, or D1 if the loop trains no models and the policy has a phase D1.
-- Reads: pairs
-- Parameters: phase
select *
from pairs
where phase = $phase
