-- Grain: one row: a digest of the candidates that a policy reads, with their scores by the judge `judge`,
-- in any order. The scores of other judges are in rows_judged.sql.
-- Reads: candidates
with hashed as (
    select sha256(concat_ws(
        chr(31), prompt_id, split, role, sample_id, draw, coalesce(score::varchar, ''),
        coalesce(expected_score::varchar, ''), coalesce(spread::varchar, ''),
        coalesce(n_judgments::varchar, ''), coalesce(n_tokens::varchar, ''),
        coalesce(finish_reason, '')
    )) as row_hash
    from candidates
)

select digest_of(row_hash) as digest from hashed
