-- The prompt and both answers with their ranks. The preferred answer has the lower rank.
-- Grain: one row per pair of `dataset`.
-- Reads: dataset
select
    prompt as context,
    [{'rank': 0, 'completion': chosen}, {'rank': 1, 'completion': rejected}] as completions
from dataset
