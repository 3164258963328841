-- Grain: one row a pair that the policy considered, with its outcome.
-- Whatever the policy, a pair is kept only if both sides have a score and a text, the texts
-- differ, and the chosen score is the higher one.
with build as (select * from build_settings),

sides as (
    select distinct on (sample_id) * from candidates
),

considered as (
    select
        policy.prompt_id,
        build.build,
        build.iteration,
        build.phase,
        prompts.split,
        policy.chosen_id,
        policy.rejected_id,
        chosen.score as score_chosen,
        rejected.score as score_rejected,
        chosen.n_judgments as n_judgments_chosen,
        rejected.n_judgments as n_judgments_rejected,
        chosen.role as chosen_role,
        rejected.role as rejected_role,
        chosen.model as chosen_model,
        rejected.model as rejected_model,
        build.judge_model,
        coalesce(chosen.n_prompt_tokens, rejected.n_prompt_tokens) as prompt_tokens,
        chosen.n_tokens as chosen_tokens,
        rejected.n_tokens as rejected_tokens,
        bare(chosen.text) as chosen_text,
        bare(rejected.text) as rejected_text
    from policy
    join prompts on prompts.prompt_id = policy.prompt_id and prompts.split != 'probe', build
    left join sides as chosen on chosen.sample_id = policy.chosen_id
    left join sides as rejected on rejected.sample_id = policy.rejected_id
)

select
    row_id(prompt_id, chosen_id, coalesce(rejected_id, '')) as pair_id,
    build,
    prompt_id,
    iteration,
    phase,
    split,
    case
        when score_chosen is null or score_rejected is null then 'unscored'
        when chosen_text = '' or rejected_text = '' then 'empty'
        when score_chosen = score_rejected then 'tie'
        when score_chosen < score_rejected then 'inverted'
        when chosen_text = rejected_text then 'identical'
        else 'kept'
    end as outcome,
    chosen_id,
    rejected_id,
    score_chosen,
    score_rejected,
    score_chosen - score_rejected as margin,
    n_judgments_chosen,
    n_judgments_rejected,
    chosen_role,
    rejected_role,
    chosen_model,
    rejected_model,
    judge_model,
    prompt_tokens,
    chosen_tokens,
    rejected_tokens
from considered
order by prompt_id
