-- Grain: one row per pair that the policy considered, with its outcome.
-- With every policy, a pair is kept only if both sides have a score and a text, the texts differ,
-- and the chosen score is higher. The recipe's `pairs` adds further conditions.
-- A policy that trains by SFT has no rejected side, so only the chosen side needs a score and a
-- text.
-- Comparisons of the two sides are NULL, and a NULL condition drops no pair.
-- Reads: eligible, measured, pair_settings, policy, prompts, texts
-- Parameters: build, iteration, judge_model, phase
with named as (select chosen_id as sample_id from policy union select rejected_id from policy),

-- A sample may have several roles.
sides as (
    select distinct on (sample_id) measured.*
    from measured
    semi join named using (sample_id)
    order by sample_id, role
),

-- Prompts with candidates that chosen_if or rejected_if excludes. They distinguish the outcome
-- 'ruled out' from 'unscored'.
ruled_prompts as (
    select distinct prompt_id from eligible where not (may_be_chosen and may_be_rejected)
),

considered as (
    select
        policy.prompt_id,
        prompts.split,
        policy.chosen_id,
        policy.rejected_id,
        chosen.score as score_chosen,
        rejected.score as score_rejected,
        chosen.score - rejected.score as margin,
        chosen.n_judgments as n_judgments_chosen,
        rejected.n_judgments as n_judgments_rejected,
        chosen.role as chosen_role,
        rejected.role as rejected_role,
        chosen.model as chosen_model,
        rejected.model as rejected_model,
        coalesce(chosen.n_prompt_tokens, rejected.n_prompt_tokens) as prompt_tokens,
        chosen.n_tokens as chosen_tokens,
        rejected.n_tokens as rejected_tokens,
        pooled_spread(
            chosen.spread, chosen.n_judgments, rejected.spread, rejected.n_judgments
        ) as noise,
        greatest(chosen.n_tokens, rejected.n_tokens)
        / greatest(least(chosen.n_tokens, rejected.n_tokens), 1) as length_ratio,
        ruled_prompts.prompt_id is not null as has_ruled_out,
        coalesce(chosen.may_be_chosen and coalesce(rejected.may_be_rejected, true), true)
            as sides_may_be,
        coalesce(
            list_bool_and(
                list_transform(
                    list_zip(chosen.votes, rejected.votes),
                    lambda votes: coalesce(votes[1] > votes[2], false)
                )
            ),
            true
        ) as judges_agree,
        bare(chosen_texts.text) as chosen_text,
        bare(rejected_texts.text) as rejected_text
    from policy
    join prompts on prompts.prompt_id = policy.prompt_id and prompts.split != 'probe'
    left join sides as chosen on chosen.sample_id = policy.chosen_id
    left join sides as rejected on rejected.sample_id = policy.rejected_id
    left join ruled_prompts on ruled_prompts.prompt_id = policy.prompt_id
    left join texts as chosen_texts on chosen_texts.sample_id = chosen.sample_id
    left join texts as rejected_texts on rejected_texts.sample_id = rejected.sample_id
)

select
    row_id(prompt_id, chosen_id, coalesce(rejected_id, '')) as pair_id,
    $build as build,
    prompt_id,
    $iteration::int as iteration,
    $phase as phase,
    split,
    case
        when has_ruled_out
            and (chosen_id is null or (trains = 'dpo' and rejected_id is null)) then 'ruled out'
        when not sides_may_be then 'ruled out'
        when score_chosen is null or (trains = 'dpo' and score_rejected is null) then 'unscored'
        when chosen_text = '' or (rejected_id is not null and rejected_text = '') then 'empty'
        when score_chosen = score_rejected then 'tie'
        when score_chosen < score_rejected then 'inverted'
        when chosen_text = rejected_text then 'identical'
        when not judges_agree then 'judges disagree'
        when margin < min_margin then 'small margin'
        when margin < min_margin_to_noise * noise then 'within noise'
        when length_ratio > max_length_ratio then 'length ratio'
        -- `if` instead of `and`, which would compare the words of all pairs.
        when if(max_similarity < 1, similarity(chosen_text, rejected_text) > max_similarity, false)
            then 'similar'
        else 'kept'
    end as outcome,
    chosen_id,
    rejected_id,
    score_chosen,
    score_rejected,
    margin,
    n_judgments_chosen,
    n_judgments_rejected,
    chosen_role,
    rejected_role,
    chosen_model,
    rejected_model,
    $judge_model as judge_model,
    prompt_tokens,
    chosen_tokens,
    rejected_tokens
from considered, pair_settings
order by prompt_id, pair_id
