-- Grain: one row per published pair that contradicts another pair of the same prompt and
-- configuration, and one row per labeled answer whose text also has the other label.
-- Reads: gate_pairs, kto_files
with labels as (
    select prompt_id, sample_id, label, bare(completion[-1].content) as text
    from kto_files
),

contradicting as (
    select pairs.config, pairs.pair_id as id, left(pairs.chosen, 60) as what
    from gate_pairs as pairs
    semi join gate_pairs as others
        on others.config = pairs.config
        and others.prompt_id = pairs.prompt_id
        and others.chosen = pairs.rejected
        and others.rejected = pairs.chosen
        and others.pair_id != pairs.pair_id
    union all
    select 'kto', labels.sample_id, left(labels.text, 60)
    from labels
    semi join labels as others
        on others.prompt_id = labels.prompt_id
        and others.text = labels.text
        and others.label != labels.label
)

select config, id, what
from contradicting
order by config, id
