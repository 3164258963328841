-- Grain: one row per row in the shards of samples. The view `samples` uses this query if no row
-- needs to be left out.
-- Reads: samples_shards
select * exclude (filename, file_row_number) rename (sampling as sampling_key)
from samples_shards
