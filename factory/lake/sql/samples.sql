-- Grain: one row a draw of a request: (model, sampling, prompt, draw).
from made_once(
    'samples_shards',
    (sampling, request_id, draw),
    error_kind is not distinct from 'transient'
)
