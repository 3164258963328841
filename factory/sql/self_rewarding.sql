-- Self-Rewarding (arXiv 2401.10020): both sides from the current model.
-- Grain: one row a prompt: the pair that is considered for it.
-- Chosen: the best current answer. Rejected: the worst. Equal scores: the lowest draw.
with scored as (select * from candidates where role = 'current' and score is not null),

ranked as (
    select
        *,
        row_number() over (partition by prompt_id order by score desc, draw) as from_best,
        row_number() over (partition by prompt_id order by score, draw) as from_worst
    from scored
),

best as (select prompt_id, sample_id from ranked where from_best = 1),

worst as (select prompt_id, sample_id from ranked where from_worst = 1),

all_prompts as (select distinct prompt_id from candidates)

select prompt_id, best.sample_id as chosen_id, worst.sample_id as rejected_id
from all_prompts
left join best using (prompt_id)
left join worst using (prompt_id)
