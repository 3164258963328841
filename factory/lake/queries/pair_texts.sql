-- What do the kept pairs look like? Each row has the prompt's last message, both answers, and the
-- scores that `pairs` compares, with the largest margin first.
-- Grain: one row per kept pair in `final_pairs`.
-- Reads: final_pairs, prompts, samples
select
    pairs.iteration,
    pairs.pair_id,
    round(pairs.margin, 3) as margin,
    round(pairs.score_chosen, 3) as score_chosen,
    round(pairs.score_rejected, 3) as score_rejected,
    prompts.messages[-1].content as prompt,
    chosen.text as chosen,
    rejected.text as rejected
from final_pairs as pairs
join prompts using (prompt_id)
left join samples as chosen on chosen.sample_id = pairs.chosen_id
left join samples as rejected on rejected.sample_id = pairs.rejected_id
where pairs.outcome = 'kept'
order by pairs.iteration, pairs.margin desc nulls last, pairs.pair_id
