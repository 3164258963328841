-- Grain: one row per row of the shards of samples, where the view samples leaves none out.
-- Reads: samples_shards
select * exclude (filename, file_row_number) rename (sampling as sampling_key)
from samples_shards
