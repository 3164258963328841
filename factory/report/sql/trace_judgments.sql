-- Grain: one row per judgment and parser of a sample, by the judges in `judges` (digests joined
-- with `+`). The columns of the verdict are NULL if the judgment has no verdict.
-- Reads: judgments_shards, verdicts_shards
-- Parameters: judges, sample_id
with read as (
    select judgment_id, score, expected_score, reason, parser as parser_key
    from verdicts_shards
)

select
    judgments.* exclude (filename, file_row_number) rename (judge as judge_key),
    read.* exclude (judgment_id)
from judgments_shards as judgments
left join read using (judgment_id)
where judgments.sample_id = $sample_id
    and list_contains(string_split($judges, '+'), judgments.judge_model)
order by judge_model, other_id, draw, parser_key
