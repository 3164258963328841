-- Grain: one row per published text that matches any of the patterns.
-- Reads: gate_texts
-- Parameters: any_pattern
select *
from gate_texts
where regexp_matches(text, $any_pattern)
