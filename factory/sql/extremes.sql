-- Grain: one row a prompt and place, 1 to pairs.per_prompt and at most half of the current ones: the
-- candidate of each role that comes at that place from the best, and from the worst, as {id, score};
-- NULL where there are not so many, or none that meets pairs.chosen_if or rejected_if.
-- Equal: as pairs.ties says, then by id, so that the same rows always have the same order.
with listed as (
    select
        prompt_id,
        list({'id': sample_id, 'score': score} order by from_best, tie, sample_id)
            filter (role = 'past' and may_be_chosen) as best_past,
        list({'id': sample_id, 'score': score} order by from_best, tie, sample_id)
            filter (role = 'current' and may_be_chosen) as best_current,
        list({'id': sample_id, 'score': score} order by from_best, tie, sample_id)
            filter (role = 'future' and may_be_chosen) as best_future,
        list({'id': sample_id, 'score': score} order by from_best, tie, sample_id)
            filter (role = 'reference' and may_be_chosen) as best_reference,
        list({'id': sample_id, 'score': score} order by from_worst, tie, sample_id)
            filter (role = 'past' and may_be_rejected) as worst_past,
        list({'id': sample_id, 'score': score} order by from_worst, tie, sample_id)
            filter (role = 'current' and may_be_rejected) as worst_current,
        list({'id': sample_id, 'score': score} order by from_worst, tie, sample_id)
            filter (role = 'future' and may_be_rejected) as worst_future,
        list({'id': sample_id, 'score': score} order by from_worst, tie, sample_id)
            filter (role = 'reference' and may_be_rejected) as worst_reference
    from ordered
    group by prompt_id
),

all_prompts as (select distinct prompt_id from measured),

places as (select unnest(range(1, per_prompt + 1)) as place from pair_settings)

select
    all_prompts.prompt_id,
    places.place,
    best_past[place] as best_past,
    best_current[place] as best_current,
    best_future[place] as best_future,
    best_reference[place] as best_reference,
    worst_past[place] as worst_past,
    worst_current[place] as worst_current,
    worst_future[place] as worst_future,
    worst_reference[place] as worst_reference
from all_prompts
left join listed using (prompt_id), places
where places.place = 1
    or len(best_current) >= 2 * places.place
