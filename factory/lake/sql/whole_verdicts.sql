-- Grain: one row: whether each verdict of the shards was made once, and they are of all judgments of
-- the shards, none of which is left out but failures, so that the view leaves no verdict out.
-- That the ids are the same is told by their number and the sum of their hashes, which costs a
-- fifth of joining them. As in whole_samples.sql.
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
