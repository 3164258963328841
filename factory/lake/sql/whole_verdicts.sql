-- Grain: a single row. `is_whole` is true if the shards have no duplicate verdicts and exactly one
-- verdict for every judgment that did not fail, so that the view keeps every row. Comparing numbers
-- and sums of hashes shows whether the IDs are the same, in a fifth of the time of a join. See
-- whole_samples.sql for hashes.
-- Reads: judgments_shards, verdicts_shards
with made as (
    select
        count(*) as n,
        count(distinct hash(parser, judgment_id)) as n_made,
        sum(hash(judgment_id)) as ids
    from verdicts_shards
),

judged as (
    select
        count(*) filter (error is null) as n,
        sum(hash(judgment_id)) filter (error is null) as ids,
        count(*) = count(distinct hash(judge, request_id, draw))
            and count(*) filter (context != '' or other_id is not null) = 0 as is_whole
    from judgments_shards
    where error_kind is distinct from 'transient'
)

select
    made.n = 0
    or made.n = made.n_made and judged.is_whole and made.n = judged.n and made.ids = judged.ids
        as is_whole
from made, judged
