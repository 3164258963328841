-- Grain: one row per side (chosen or rejected) of two matched pairs whose answer differs in A and B.
-- The first reason that applies is given: A's answer was not available in B, B's answer was not
-- available in A, the scores of an answer differ, or the choice differs.
-- Without candidates, an answer is known only if it is a side of a considered pair.
-- Reads: considered, diff_matched, known, offered
with moved as (
    select
        matched.prompt_id,
        matched.iteration,
        matched.a_pair_id,
        matched.b_pair_id,
        of_a.judge_model != of_b.judge_model as has_other_judge,
        unnest(
            [
                {
                    'side': 'chosen',
                    'old_id': of_a.chosen_id,
                    'old_role': of_a.chosen_role,
                    'old_model': of_a.chosen_model,
                    'old_score': of_a.score_chosen,
                    'new_id': of_b.chosen_id,
                    'new_role': of_b.chosen_role,
                    'new_model': of_b.chosen_model,
                    'new_score': of_b.score_chosen
                },
                {
                    'side': 'rejected',
                    'old_id': of_a.rejected_id,
                    'old_role': of_a.rejected_role,
                    'old_model': of_a.rejected_model,
                    'old_score': of_a.score_rejected,
                    'new_id': of_b.rejected_id,
                    'new_role': of_b.rejected_role,
                    'new_model': of_b.rejected_model,
                    'new_score': of_b.score_rejected
                }
            ],
            max_depth := 2
        )
    from diff_matched as matched
    join considered as of_a
        on of_a.source = 'A'
        and of_a.prompt_id = matched.prompt_id
        and of_a.iteration = matched.iteration
        and of_a.pair_id = matched.a_pair_id
    join considered as of_b
        on of_b.source = 'B'
        and of_b.prompt_id = matched.prompt_id
        and of_b.iteration = matched.iteration
        and of_b.pair_id = matched.b_pair_id
    where starts_with(matched.status, 'changed')
),

changed as (from moved where old_id != new_id),

all_answers as (
    select source, iteration, prompt_id, sample_id, score, is_cut_off
    from offered
    union all
    select source, iteration, prompt_id, chosen_id, score_chosen, false
    from considered
    union all
    select source, iteration, prompt_id, rejected_id, score_rejected, false
    from considered
),

answers as (
    select
        source,
        iteration,
        prompt_id,
        sample_id,
        any_value(score) as score,
        bool_or(is_cut_off) as is_cut_off
    from all_answers
    semi join changed using (iteration, prompt_id)
    where sample_id is not null
    group by source, iteration, prompt_id, sample_id
),

models_of as (
    select source, iteration, role, list(distinct model) as models
    from offered
    group by source, iteration, role
),

looked_for as (
    select *, 'B' as source, old_id as sample_id, old_role as role, old_model as model
    from changed
    union all
    select *, 'A', new_id, new_role, new_model
    from changed
),

-- The answer in the other recipe: its score there, or the reason why it was not available.
looked_up as (
    select
        looked_for.*,
        answers.score,
        case
            when answers.is_cut_off then 'cut off in ' || source
            when answers.sample_id is not null and answers.score is null
                then 'no score in ' || source
            when answers.sample_id is not null or not known.has_candidates then null
            when models_of.models is null then 'no ' || role || ' in ' || source
            when not list_contains(models_of.models, looked_for.model) then 'other model as ' || role
            else 'no candidate in ' || source
        end as hindrance
    from looked_for
    join known using (source)
    left join answers using (source, iteration, prompt_id, sample_id)
    left join models_of using (source, iteration, role)
),

compared as (
    select
        in_b.* exclude (source, sample_id, role, model, score, hindrance),
        in_b.score as old_in_b,
        in_a.score as new_in_a,
        coalesce(in_b.hindrance, in_a.hindrance) as hindrance
    from looked_up as in_b
    join looked_up as in_a using (prompt_id, iteration, a_pair_id, b_pair_id, side)
    where in_b.source = 'B' and in_a.source = 'A'
)

select
    prompt_id,
    iteration,
    a_pair_id,
    b_pair_id,
    side,
    case
        when hindrance is not null then hindrance
        when old_in_b != old_score or new_in_a != new_score
            then if(has_other_judge, 'other judge', 'other scores')
        when old_role != new_role then new_role || ' instead of ' || old_role
        when old_model != new_model then 'other model as ' || new_role
        when old_score = new_score and coalesce(old_in_b, new_in_a) is not null
            then 'equal scores'
        when old_in_b is null or new_in_a is null then 'other answer'
        else 'other choice'
    end as reason,
    format(
        '{}: {} {:.4g}{}, now {} {:.4g}{}',
        side,
        old_role,
        old_score,
        if(old_in_b != old_score, format(' ({:.4g} in B)', old_in_b), ''),
        new_role,
        new_score,
        if(new_in_a != new_score, format(' ({:.4g} in A)', new_in_a), '')
    ) as detail
from compared
