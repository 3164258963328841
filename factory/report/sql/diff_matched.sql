-- Grain: one row per kept pair of A or B. Matched pairs share a row.
-- Within a prompt and iteration, two pairs match if they have the same ID, or the same two answers
-- with their sides exchanged. The remaining pairs are matched in the order of their IDs.
-- Reads: considered
with of_a as (from considered where source = 'A' and outcome = 'kept'),

of_b as (from considered where source = 'B' and outcome = 'kept'),

same_answers as (
    select of_a.prompt_id, of_a.iteration, of_a.pair_id as a_pair_id, of_b.pair_id as b_pair_id
    from of_a
    join of_b
        on of_b.prompt_id = of_a.prompt_id
        and of_b.iteration = of_a.iteration
        and (
            of_b.pair_id = of_a.pair_id
            or (of_b.chosen_id = of_a.rejected_id and of_b.rejected_id = of_a.chosen_id)
        )
),

rest_of_a as (
    select
        prompt_id,
        iteration,
        pair_id as a_pair_id,
        row_number() over (partition by prompt_id, iteration order by pair_id) as place
    from of_a
    where (prompt_id, iteration, pair_id) not in (
        select (prompt_id, iteration, a_pair_id) from same_answers
    )
),

rest_of_b as (
    select
        prompt_id,
        iteration,
        pair_id as b_pair_id,
        row_number() over (partition by prompt_id, iteration order by pair_id) as place
    from of_b
    where (prompt_id, iteration, pair_id) not in (
        select (prompt_id, iteration, b_pair_id) from same_answers
    )
),

matched as (
    select prompt_id, iteration, a_pair_id, b_pair_id
    from same_answers
    union all
    select prompt_id, iteration, a_pair_id, b_pair_id
    from rest_of_a
    full join rest_of_b using (prompt_id, iteration, place)
)

select
    matched.*,
    case
        when b_pair_id is null then 'lost'
        when a_pair_id is null then 'gained'
        when a_pair_id = b_pair_id then 'same'
        when of_a.chosen_id = of_b.rejected_id and of_a.rejected_id = of_b.chosen_id then 'flipped'
        when of_a.rejected_id = of_b.rejected_id then 'changed chosen'
        when of_a.chosen_id = of_b.chosen_id then 'changed rejected'
        else 'changed both'
    end as status
from matched
left join of_a
    on of_a.prompt_id = matched.prompt_id
    and of_a.iteration = matched.iteration
    and of_a.pair_id = matched.a_pair_id
left join of_b
    on of_b.prompt_id = matched.prompt_id
    and of_b.iteration = matched.iteration
    and of_b.pair_id = matched.b_pair_id
