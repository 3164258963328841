-- Grain: one row per draw of a request: (model, sampling, prompt, draw).
-- Reads: samples_shards
select * rename (sampling as sampling_key)
from made_once(
    'samples_shards',
    (sampling, request_id, draw),
    error_kind is not distinct from 'transient'
)
