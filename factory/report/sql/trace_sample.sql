-- Grain: one row: the sample with the given ID.
-- Reads: samples_shards
-- Parameters: sample_id
select * exclude (filename, file_row_number) rename (sampling as sampling_key)
from samples_shards
where sample_id = $sample_id
limit 1
