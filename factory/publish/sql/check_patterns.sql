-- Grain: one row per published text and kind of thing that is found in it; not what was found.
-- Reads: patterns, suspects
select distinct suspects.config, suspects.id, patterns.kind as what
from suspects
join patterns on regexp_matches(suspects.text, patterns.pattern)
order by config, id, what
