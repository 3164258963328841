-- Is the score gap of the pairs large, and what weakens the pairs? `gap` is the mean margin of the
-- kept pairs, and `gap_in_sd` divides it by `score_sd`, the standard deviation of the scores of all
-- answers (`pair_score` in `candidates`). `future_won` is the share of prompts for which the future
-- model's best answer scores higher than the current model's. `chosen_longer` is the share of kept
-- pairs whose chosen answer has more tokens. `truncated` counts the `answers` that `max_tokens` cut
-- off, and `failed` the generations without an answer. `same_text` counts the `prompts` whose
-- answers all have the same text. `consistency` is Krippendorff's alpha over the answers with
-- several `verdicts`, which `rejudged` counts: 1 if the judge always repeats its score, 0 if it
-- agrees with itself by chance. With several judges, it is the value of the least consistent judge.
-- It is NULL if each answer was judged once, if all scores are equal, or for comparisons (see
-- position_bias).
-- Grain: one row per iteration and phase.
-- Reads: candidates, pairs, panel, verdicts
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

answers as materialized (
    select
        iteration,
        prompt_id,
        sample_id,
        role,
        name,
        pair_score,
        error,
        finish_reason,
        role != 'reference' and error is null as is_own,
        hash(bare(text)) as text_hash
    from candidates
    where role != 'probe'
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
    join in_phases using (iteration, role)
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
    join in_phases using (iteration, role)
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

in_samples as (
    select
        answers.iteration,
        answers.role,
        answers.sample_id,
        panel.judge_name,
        if(panel.ranks_by = 'expected_score', verdicts.expected_score, verdicts.score) as draw_score
    from answers
    join panel using (iteration, role, name)
    join verdicts
        on verdicts.sample_id = answers.sample_id
        and verdicts.parser_key = panel.parser_key
        and verdicts.draw < panel.n_judge_draws
    where panel.ranks_by is not null and panel.opponents is null and draw_score is not null
),

rejudged as (
    select
        iteration,
        role,
        judge_name,
        count(*) as n,
        var_samp(draw_score) as sample_variance,
        sum(draw_score) as total,
        sum(draw_score * draw_score) as total_squared,
        min(draw_score) as lowest,
        max(draw_score) as highest
    from in_samples
    group by iteration, role, judge_name, sample_id
    having count(*) > 1
),

-- Krippendorff's alpha as in judge_agreement, from the sums of each sample.
of_each_judge as (
    select
        iteration,
        phase,
        count(*) as rejudged,
        sum(n) as n_draws,
        sum(n * sample_variance) / n_draws as variance_within,
        (sum(total_squared) - sum(total) * sum(total) / n_draws) / (n_draws - 1) as variance_of_all,
        if(min(lowest) < max(highest), 1 - variance_within / variance_of_all, null) as consistency
    from rejudged
    join in_phases using (iteration, role)
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
