-- Are chosen answers longer than rejected ones? For the kept pairs in `pairs`, the query shows the
-- mean number of tokens of both sides, the ratio of these means (chosen to rejected), and the share
-- of pairs whose chosen side is longer or shorter.
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
