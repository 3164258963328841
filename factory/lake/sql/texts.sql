-- Grain: one row per sample that `texts_of` lists as chosen_id or rejected_id, unless its text is
-- already in the table `texts`.
-- Reads: samples, texts, texts_of
with wanted_texts as (
    select unnest([chosen_id, rejected_id]) as sample_id from texts_of
),

missing_texts as (select sample_id from wanted_texts anti join texts using (sample_id))

select sample_id, any_value(text) as text
from samples
semi join missing_texts using (sample_id)
group by sample_id
