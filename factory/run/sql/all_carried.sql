-- Grain: one row a draw that is taken over from another limit on length.
from carried
