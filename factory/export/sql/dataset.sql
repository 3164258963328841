-- Grain: one row per selected pair, with the columns of a dataset (PAIR_COLUMNS).
-- Reads: pair_rows
select
    * exclude (n_judgments_chosen, n_judgments_rejected),
    least(n_judgments_chosen, n_judgments_rejected) as n_judgments
from pair_rows
where rejected is not null
order by prompt_id, pair_id
