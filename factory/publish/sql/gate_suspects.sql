-- Grain: one row per published text in which any of the patterns is found.
-- Reads: gate_texts
-- Parameters: any_pattern
select *
from gate_texts
where regexp_matches(text, $any_pattern)
