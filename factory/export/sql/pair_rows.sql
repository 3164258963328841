-- The rows of every dataset and training file: the pairs of `selected_pairs` with stored prompts,
-- texts as messages, scores, and provenance. `rejected` is NULL if the policy has no rejected side.
-- Grain: one row per selected pair.
-- Reads: prompts, selected_pairs, texts
select
    pairs.pair_id,
    pairs.prompt_id,
    pairs.iteration,
    prompts.messages as prompt,
    prompts.tools,
    prompts.template_kwargs,
    [{'role': 'assistant', 'content': chosen.text}] as chosen,
    if(rejected.text is null, null, [{'role': 'assistant', 'content': rejected.text}]) as rejected,
    pairs.score_chosen,
    pairs.score_rejected,
    pairs.margin,
    pairs.chosen_role,
    pairs.rejected_role,
    pairs.chosen_model,
    pairs.rejected_model,
    pairs.judge_model,
    pairs.n_judgments_chosen,
    pairs.n_judgments_rejected,
    pairs.prompt_tokens,
    pairs.chosen_tokens,
    pairs.rejected_tokens,
    pairs.chosen_id,
    pairs.rejected_id,
    prompts.source,
    prompts.license
from selected_pairs as pairs
join prompts on prompts.prompt_id = pairs.prompt_id and prompts.split = pairs.split
join texts as chosen on chosen.sample_id = pairs.chosen_id
left join texts as rejected on rejected.sample_id = pairs.rejected_id
