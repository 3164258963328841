-- Temporal Self-Rewarding (arXiv 2508.06026): the rejected side from the past, the chosen side
-- from the future.
-- Grain: one row a prompt: the pair that is considered for it.
-- Chosen: the best future answer if it beats the best current one, else the best current one.
-- Rejected: the worst past answer if it is worse than the worst current one, else the worst
-- current one. Before there is a future model (phase D1) there are no future candidates, and this
-- is anchored rejection. Equal scores: the lowest draw.
with scored as (select * from candidates where score is not null),

ranked as (
    select
        *,
        row_number() over (partition by prompt_id, role order by score desc, draw) as from_best,
        row_number() over (partition by prompt_id, role order by score, draw) as from_worst
    from scored
),

best as (
    select
        prompt_id,
        max(sample_id) filter (role = 'current') as current_id,
        max(score) filter (role = 'current') as current_score,
        max(sample_id) filter (role = 'future') as future_id,
        max(score) filter (role = 'future') as future_score
    from ranked
    where from_best = 1
    group by prompt_id
),

worst as (
    select
        prompt_id,
        max(sample_id) filter (role = 'current') as current_id,
        max(score) filter (role = 'current') as current_score,
        max(sample_id) filter (role = 'past') as past_id,
        max(score) filter (role = 'past') as past_score
    from ranked
    where from_worst = 1
    group by prompt_id
),

all_prompts as (select distinct prompt_id from candidates)

select
    prompt_id,
    if(best.future_score > best.current_score, best.future_id, best.current_id) as chosen_id,
    if(worst.past_score < worst.current_score, worst.past_id, worst.current_id) as rejected_id
from all_prompts
left join best using (prompt_id)
left join worst using (prompt_id)
