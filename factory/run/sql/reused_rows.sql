-- Grain: one row per draw that is reused from another limit on length.
-- Reads: reused
from reused
