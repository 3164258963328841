-- SPIN, self-play fine-tuning (arXiv 2401.01335): the reference answer against the model's answer.
-- Roles: reference, current
-- Grain: one row per prompt and place, with the pair that the policy considers.
-- Chosen: the prompt's reference. Rejected: the first scored current answer by draw, whatever its
-- score, because SPIN does not select its samples. The second place takes the second answer.
-- pairs.ties and pairs.length_control have no effect, and one draw is enough.
-- SPIN itself uses no judge, keeps all pairs, and uses the same prompts in all iterations. Here, as
-- with every policy, each iteration has different prompts, and a pair is kept only if the judge
-- prefers the chosen side, which is the reference.
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
