-- Grain: one row per published answer of one iteration and split, of a policy that has no rejected
-- side: D2, kept.
-- Reads: pairs, part, prompts, texts
select
    pairs.pair_id,
    pairs.prompt_id,
    pairs.iteration,
    bare_messages(prompts.messages) as prompt,
    [{'role': 'assistant', 'content': texts.text}] as completion,
    pairs.score_chosen as score,
    pairs.chosen_role as role,
    pairs.chosen_model as model,
    pairs.judge_model,
    pairs.n_judgments_chosen as n_judgments,
    pairs.prompt_tokens,
    pairs.chosen_tokens as completion_tokens,
    pairs.chosen_id as sample_id
from pairs
join part on part.iteration = pairs.iteration and part.split = pairs.split
join prompts on prompts.prompt_id = pairs.prompt_id and prompts.split = pairs.split
join texts on texts.sample_id = pairs.chosen_id
where pairs.outcome = 'kept' and pairs.phase = 'D2'
order by pairs.prompt_id, pairs.pair_id
