-- Is the score gap of the pairs large, and what weakens the pairs? `gap` is the mean margin of the
-- kept pairs, and `gap_in_sd` divides it by `score_sd`, the standard deviation of the scores of all
-- answers (`pair_score` in `candidates`). `future_won` is the share of prompts for which the future
-- model's best answer scores higher than the current model's. `chosen_longer` is the share of kept
-- pairs whose chosen answer has more tokens. `truncated` counts the `answers` that `max_tokens` cut
-- off, and `failed` the generations without an answer. `same_text` counts the `prompts` whose
-- answers all have the same text. `consistency` is Krippendorff's alpha over the `verdicts` on the
-- `rejudged` answers, which have several: 1 if the judge always repeats its score, 0 if it agrees
-- with itself by chance. Of several judges, the least consistent one counts. It is NULL if each
-- answer was judged once, if all scores are equal, or for comparisons (see position_bias).
-- Grain: one row per iteration and phase.
-- Reads: candidates, pairs, panel, placed, verdicts
with of_pairs as (
    select
        iteration,
        phase,
        avg(margin) filter (outcome = 'kept') as gap,
        avg((chosen_tokens > rejected_tokens)::int) filter (outcome = 'kept') as chosen_longer
    from pairs
    group by iteration, phase
),

-- The pairs of phase D1 are chosen before there is a future model.
in_phases as (
    select iteration, phase, unnest(['past', 'current', 'reference']) as role
    from of_pairs
    union all
    select iteration, phase, 'future'
    from of_pairs
    where phase = 'D2'
),

answers as (
    select
        in_phases.phase,
        candidates.iteration,
        candidates.prompt_id,
        candidates.role,
        candidates.pair_score,
        candidates.error,
        candidates.finish_reason,
        candidates.role != 'reference' and candidates.error is null as is_own,
        hash(bare(candidates.text)) as text_hash
    from candidates
    join in_phases using (iteration, role)
),

of_answers as (
    select
        iteration,
        phase,
        count(*) filter (is_own) as answers,
        count(*) filter (error is not null) as failed,
        count(*) filter (is_own and finish_reason = 'length') as truncated,
        stddev_pop(pair_score) as score_sd,
        min(pair_score) as lowest_score,
        max(pair_score) as highest_score
    from answers
    group by iteration, phase
),

in_prompts as (
    select
        iteration,
        phase,
        max(pair_score) filter (role = 'future') - max(pair_score) filter (role = 'current')
            as difference,
        count(*) filter (is_own) > 1
        and min(text_hash) filter (is_own) = max(text_hash) filter (is_own) as is_same_text
    from answers
    group by iteration, phase, prompt_id
),

of_prompts as (
    select
        iteration,
        phase,
        count(*) as prompts,
        count(*) filter (is_same_text) as same_text,
        count(*) filter (difference > 0) / nullif(count(difference), 0) as future_won
    from in_prompts
    group by iteration, phase
),

judged as (
    select
        in_phases.phase,
        placed.iteration,
        panel.judge_name,
        placed.role,
        placed.sample_id,
        if(panel.ranks_by = 'expected_score', verdicts.expected_score, verdicts.score) as draw_score
    from placed
    join in_phases using (iteration, role)
    join panel using (iteration, role, name)
    join verdicts
        on verdicts.sample_id = placed.sample_id
        and verdicts.parser_key = panel.parser_key
        and verdicts.draw < panel.n_judge_draws
    where panel.ranks_by is not null and panel.opponents is null and draw_score is not null
),

in_samples as (
    select *, count(*) over of_sample as n, var_samp(draw_score) over of_sample as variance
    from judged
    window of_sample as (partition by iteration, phase, judge_name, role, sample_id)
),

-- As in judge_agreement.
of_each_judge as (
    select
        iteration,
        phase,
        count(distinct sample_id) as rejudged,
        if(min(draw_score) < max(draw_score), 1 - avg(variance) / var_samp(draw_score), null)
            as consistency
    from in_samples
    where n > 1
    group by iteration, phase, judge_name
),

of_judges as (
    select iteration, phase, min(rejudged) as rejudged, min(consistency) as consistency
    from of_each_judge
    group by iteration, phase
)

select
    iteration,
    phase,
    round(gap, 3) as gap,
    round(score_sd, 3) as score_sd,
    round(gap / nullif(score_sd, 0), 3) as gap_in_sd,
    round(lowest_score, 3) as lowest_score,
    round(highest_score, 3) as highest_score,
    round(future_won, 3) as future_won,
    round(chosen_longer, 3) as chosen_longer,
    coalesce(answers, 0) as answers,
    coalesce(truncated, 0) as truncated,
    round(truncated / nullif(answers, 0), 3) as truncated_share,
    coalesce(failed, 0) as failed,
    coalesce(prompts, 0) as prompts,
    coalesce(same_text, 0) as same_text,
    round(same_text / nullif(prompts, 0), 3) as same_text_share,
    coalesce(rejudged, 0) as rejudged,
    round(consistency, 3) as consistency
from of_pairs
left join of_answers using (iteration, phase)
left join of_prompts using (iteration, phase)
left join of_judges using (iteration, phase)
order by iteration, phase
