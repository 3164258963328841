-- Grain: one row a verdict: (parser, judgment).
-- Verdicts of judgments that were lost and made again with another text belong to no judgment
-- and are left out. Made twice: the first shard by name.
with ranked as (
    select
        filename,
        file_row_number,
        row_number() over (
            partition by parser, judgment_id order by filename, file_row_number
        ) as place
    from verdicts_shards
),

superseded as (select filename, file_row_number from ranked where place > 1)

select shards.* exclude (filename, file_row_number)
from verdicts_shards as shards
anti join superseded using (filename, file_row_number)
semi join judgments using (judgment_id)
