-- Grain: one row a verdict: (parser, judgment).
-- Verdicts of judgments that were lost and made again with another text belong to no judgment
-- and are left out. Made twice: the first shard by name.
with ranked as (
    select
        *,
        row_number() over (
            partition by parser, judgment_id order by filename, file_row_number
        ) as place
    from verdicts_shards
)

select ranked.* exclude (filename, file_row_number, place)
from ranked
semi join judgments using (judgment_id)
where place = 1
