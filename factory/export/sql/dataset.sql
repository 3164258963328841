-- Grain: one row per kept pair of one iteration and split, of the phase that is published.
-- Reads: pairs, part, prompts, published, texts
select
    pairs.pair_id,
    pairs.prompt_id,
    pairs.iteration,
    bare_messages(prompts.messages) as prompt,
    [{'role': 'assistant', 'content': chosen.text}] as chosen,
    [{'role': 'assistant', 'content': rejected.text}] as rejected,
    pairs.score_chosen,
    pairs.score_rejected,
    pairs.margin,
    pairs.chosen_role,
    pairs.rejected_role,
    pairs.chosen_model,
    pairs.rejected_model,
    pairs.judge_model,
    least(pairs.n_judgments_chosen, pairs.n_judgments_rejected) as n_judgments,
    pairs.prompt_tokens,
    pairs.chosen_tokens,
    pairs.rejected_tokens,
    pairs.chosen_id,
    pairs.rejected_id,
    prompts.source,
    prompts.license
from pairs
join published on published.phase = pairs.phase
join part on part.iteration = pairs.iteration and part.split = pairs.split
join prompts on prompts.prompt_id = pairs.prompt_id and prompts.split = pairs.split
join texts as chosen on chosen.sample_id = pairs.chosen_id
join texts as rejected on rejected.sample_id = pairs.rejected_id
where pairs.outcome = 'kept'
order by pairs.prompt_id, pairs.pair_id
