-- The prompt, and the answers with their ranks: the lower is the preferred one.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select
    prompt as context,
    [{'rank': 0, 'completion': chosen}, {'rank': 1, 'completion': rejected}] as completions
from dataset
