-- Grain: one row per kept pair that only A or only B has, with the reason why the other lacks it.
-- The reason is the outcome of a pair that the other set considered for that prompt: the same pair,
-- or else the pair with its sides exchanged, or else the pair with the lowest ID.
-- Reads: considered, diff_matched, known, offered
with alone as (
    select
        if(status = 'lost', 'A', 'B') as source,
        if(status = 'lost', 'B', 'A') as other,
        prompt_id,
        iteration,
        coalesce(a_pair_id, b_pair_id) as pair_id
    from diff_matched
    where status in ('gained', 'lost')
),

kept as (
    select alone.*, considered.* exclude (source, prompt_id, iteration, pair_id)
    from alone
    join considered using (source, prompt_id, iteration, pair_id)
),

explained as (
    select distinct on (kept.source, kept.prompt_id, kept.iteration, kept.pair_id)
        kept.source,
        kept.prompt_id,
        kept.iteration,
        kept.pair_id,
        theirs.outcome,
        theirs.score_chosen,
        theirs.score_rejected,
        case
            when theirs.pair_id = kept.pair_id then ''
            when theirs.chosen_id = kept.rejected_id and theirs.rejected_id = kept.chosen_id
                then ', exchanged'
            else ', of other answers'
        end as answers
    from kept
    join considered as theirs
        on theirs.source = kept.other
        and theirs.prompt_id = kept.prompt_id
        and theirs.iteration = kept.iteration
        and theirs.outcome != 'kept'
    order by
        kept.source,
        kept.prompt_id,
        kept.iteration,
        kept.pair_id,
        list_position(['', ', exchanged', ', of other answers'], answers),
        theirs.pair_id
),

places as (
    select source, prompt_id, iteration, true as is_considered
    from considered
    union all
    select source, prompt_id, iteration, false
    from offered
),

prompts_of as (
    select
        source as other,
        prompt_id,
        min(iteration) as first_iteration,
        list(distinct iteration) as iterations,
        list(distinct iteration) filter (is_considered) as considered_in
    from places
    semi join alone using (prompt_id)
    group by source, prompt_id
),

iterations_of as (
    select source as other, list(distinct iteration) as all_iterations
    from considered
    group by source
)

select
    kept.source,
    kept.prompt_id,
    kept.iteration,
    kept.pair_id,
    case
        when explained.outcome is not null then explained.outcome || ' in ' || other
        when list_contains(considered_in, kept.iteration) then 'fewer pairs in ' || other
        when list_contains(iterations, kept.iteration) then 'not considered in ' || other
        when first_iteration is not null then 'other iteration in ' || other
        when not coalesce(list_contains(all_iterations, kept.iteration), false)
            then 'iteration not in ' || other
        when known.has_candidates then 'prompt not in ' || other
        when known.has_outcomes then 'not considered in ' || other
        else 'not in ' || other
    end as reason,
    case
        when explained.outcome is not null
            then format(
                '{} {:.4g} and {:.4g}; {} {} and {}{}',
                kept.source,
                kept.score_chosen,
                kept.score_rejected,
                other,
                coalesce(format('{:.4g}', explained.score_chosen), 'no score'),
                coalesce(format('{:.4g}', explained.score_rejected), 'no score'),
                explained.answers
            )
        when not coalesce(list_contains(iterations, kept.iteration), false)
            and first_iteration is not null
            then format('iteration {} of {}', first_iteration, other)
        else ''
    end as detail
from kept
left join explained using (source, prompt_id, iteration, pair_id)
left join prompts_of using (other, prompt_id)
left join iterations_of using (other)
join known on known.source = other
