-- SPIN, self-play fine-tuning (arXiv 2401.01335): the reference answer against the model's own.
-- Roles: reference, current
-- Grain: one row per prompt and place: the pair that is considered there.
-- Chosen: the prompt's reference. Rejected: of the current answers that have a score the first by
-- draw, at the second place the second, whatever the scores are: SPIN takes a sample unselected.
-- (pairs.ties and pairs.length_control have no say here, and one draw is enough.)
-- SPIN itself judges nothing and keeps all pairs, and asks the same prompts in all iterations. Here
-- a pair is kept if its judge agrees that the reference is better, as with every policy, and each
-- iteration has prompts of its own.
-- Reads: eligible, extremes
with drawn as (
    select
        prompt_id,
        min_by(sample_id, draw) filter (role = 'reference' and may_be_chosen) as reference_id,
        list(sample_id order by draw) filter (role = 'current' and may_be_rejected) as current_ids
    from eligible
    group by prompt_id
)

select
    prompt_id,
    drawn.reference_id as chosen_id,
    drawn.current_ids[extremes.place] as rejected_id
from extremes
left join drawn using (prompt_id)
