-- Grain: one row per pair that A, B, or both kept, with its status and the reason.
-- Reads: considered, diff_alone, diff_matched, diff_sides
with sides as (
    select
        prompt_id,
        iteration,
        a_pair_id,
        b_pair_id,
        if(
            count(distinct reason) = 1,
            any_value(reason),
            string_agg(side || ': ' || reason, '; ' order by side)
        ) as reason,
        string_agg(detail, '; ' order by side) as detail
    from diff_sides
    group by prompt_id, iteration, a_pair_id, b_pair_id
),

compared as (
    select
        matched.*,
        of_a.chosen_id as a_chosen_id,
        of_a.rejected_id as a_rejected_id,
        of_a.chosen_role as a_chosen_role,
        of_a.rejected_role as a_rejected_role,
        of_a.score_chosen as a_score_chosen,
        of_a.score_rejected as a_score_rejected,
        of_a.judge_model as a_judge_model,
        of_b.chosen_id as b_chosen_id,
        of_b.rejected_id as b_rejected_id,
        of_b.chosen_role as b_chosen_role,
        of_b.rejected_role as b_rejected_role,
        of_b.score_chosen as b_score_chosen,
        of_b.score_rejected as b_score_rejected,
        of_b.judge_model as b_judge_model,
        (of_a.score_chosen, of_a.score_rejected) = (of_b.score_chosen, of_b.score_rejected)
            as has_same_scores
    from diff_matched as matched
    left join considered as of_a
        on of_a.source = 'A'
        and of_a.prompt_id = matched.prompt_id
        and of_a.iteration = matched.iteration
        and of_a.pair_id = matched.a_pair_id
    left join considered as of_b
        on of_b.source = 'B'
        and of_b.prompt_id = matched.prompt_id
        and of_b.iteration = matched.iteration
        and of_b.pair_id = matched.b_pair_id
)

select
    compared.status,
    case
        when compared.status in ('gained', 'lost') then alone.reason
        when compared.status not in ('same', 'flipped') then sides.reason
        when has_same_scores then 'same scores'
        when a_judge_model != b_judge_model then 'other judge'
        else 'other scores'
    end as reason,
    case
        when compared.status in ('gained', 'lost') then alone.detail
        when compared.status not in ('same', 'flipped') then sides.detail
        when has_same_scores then ''
        else format(
            'A {:.4g} and {:.4g}; B {:.4g} and {:.4g}',
            a_score_chosen,
            a_score_rejected,
            b_score_chosen,
            b_score_rejected
        )
    end as detail,
    compared.iteration,
    compared.prompt_id,
    compared.* exclude (status, iteration, prompt_id, has_same_scores)
from compared
left join sides using (prompt_id, iteration, a_pair_id, b_pair_id)
left join diff_alone as alone
    on alone.source = if(compared.status = 'lost', 'A', 'B')
    and alone.prompt_id = compared.prompt_id
    and alone.iteration = compared.iteration
    and alone.pair_id = coalesce(compared.a_pair_id, compared.b_pair_id)
