-- Grain: one row per prompt and place. Place 1 has the best and the worst candidate of each role,
-- place 2 the second best and the second worst. There are at most pairs.per_prompt places, and at
-- most half as many as current candidates. A candidate is {key, tie, id, score}, or NULL if the
-- role has too few candidates that meet pairs.chosen_if or pairs.rejected_if.
-- Equal scores are ordered by pairs.ties, then by ID, so that the order never changes.
-- Reads: measured, ordered, pair_settings
with ranked as (
    select
        prompt_id,
        role,
        may_be_chosen,
        may_be_rejected,
        {'key': from_best, 'tie': tie, 'id': sample_id, 'score': score} as best,
        {'key': from_worst, 'tie': tie, 'id': sample_id, 'score': score} as worst
    from ordered
),

listed as (
    select
        prompt_id,
        count(*) filter (role = 'current') as n_current,
        min(best, per_prompt) filter (role = 'past' and may_be_chosen) as best_past,
        min(best, per_prompt) filter (role = 'current' and may_be_chosen) as best_current,
        min(best, per_prompt) filter (role = 'future' and may_be_chosen) as best_future,
        min(best, per_prompt) filter (role = 'reference' and may_be_chosen) as best_reference,
        min(worst, per_prompt) filter (role = 'past' and may_be_rejected) as worst_past,
        min(worst, per_prompt) filter (role = 'current' and may_be_rejected) as worst_current,
        min(worst, per_prompt) filter (role = 'future' and may_be_rejected) as worst_future,
        min(worst, per_prompt) filter (role = 'reference' and may_be_rejected) as worst_reference
    from ranked, (select per_prompt from pair_settings)
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
    or n_current >= 2 * places.place
