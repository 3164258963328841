-- Grain: one row a verdict: (parser, judgment).
-- Verdicts of judgments that were lost and made again with another text belong to no judgment
-- and are left out. Made twice: the first shard by name.
with suspects as (
    select hash(parser, judgment_id) as key
    from verdicts_shards
    group by key
    having count(*) > 1
),

ranked as (
    select
        filename,
        file_row_number,
        row_number() over (
            partition by parser, judgment_id order by filename, file_row_number
        ) as place
    from verdicts_shards
    where hash(parser, judgment_id) in (select key from suspects)
),

superseded as (select filename, file_row_number from ranked where place > 1)

select shards.* exclude (filename, file_row_number)
from verdicts_shards as shards
anti join superseded using (filename, file_row_number)
semi join judgments using (judgment_id)
