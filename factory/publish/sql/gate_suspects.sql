-- Grain: one row a published text in which any of the patterns is found.
select *
from gate_texts
where regexp_matches(text, $any_pattern)
