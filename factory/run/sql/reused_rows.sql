-- Grain: one row per draw that is copied from a folder with another max_tokens.
-- Reads: reused
from reused
