-- Grain: one row: a digest of the candidates' scores by every judge that the choice of pairs uses, in any
-- order.
-- Reads: judge_scores
with hashed as (
    select sha256(concat_ws(
        chr(31), prompt_id, role, sample_id, judge_name, coalesce(score::varchar, ''),
        coalesce(expected_score::varchar, ''), coalesce(spread::varchar, ''),
        coalesce(n_judgments::varchar, '')
    )) as row_hash
    from judge_scores
)

select digest_of(row_hash) as digest from hashed
