-- How long the two sides of the kept pairs are, in tokens of `pairs`: the means, chosen over
-- rejected, and how often the chosen side is the longer or the shorter one.
-- Grain: one row per iteration and phase.
-- Reads: pairs
select
    iteration,
    phase,
    count(*) as kept,
    round(avg(chosen_tokens), 1) as chosen_tokens,
    round(avg(rejected_tokens), 1) as rejected_tokens,
    round(avg(chosen_tokens) / nullif(avg(rejected_tokens), 0), 3) as ratio,
    round(avg((chosen_tokens > rejected_tokens)::int), 3) as chosen_longer,
    round(avg((chosen_tokens < rejected_tokens)::int), 3) as chosen_shorter
from pairs
where outcome = 'kept'
group by iteration, phase
order by iteration, phase
