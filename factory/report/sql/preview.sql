-- Grain: one row per answer to the first training prompts of iteration 0, with the texts of its
-- judgments, and the reasons for missing scores.
-- Reads: candidates, judgments, prompts, verdicts
-- Parameters: n_prompts
with first_prompts as (
    select
        prompt_id,
        messages[-1].content as prompt
    from prompts
    where iteration = 0 and split = 'train'
    limit $n_prompts
),

judgment_texts as (
    select
        sample_id,
        list(text order by draw) as judgments
    from judgments
    group by sample_id
),

reasons as (
    select
        sample_id,
        list(reason) as unscored
    from verdicts
    where reason is not null
    group by sample_id
)

select
    first_prompts.prompt,
    candidates.role,
    candidates.draw,
    candidates.text as answer,
    candidates.score,
    candidates.expected_score,
    candidates.finish_reason,
    coalesce(candidates.error, '') as error,
    judgment_texts.judgments,
    reasons.unscored
from candidates
join first_prompts using (prompt_id)
left join judgment_texts on judgment_texts.sample_id = candidates.sample_id
left join reasons on reasons.sample_id = candidates.sample_id
order by first_prompts.prompt_id, candidates.role, candidates.draw
