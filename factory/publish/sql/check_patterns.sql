-- Grain: one row per published text and kind of secret found in it, without the secret itself.
-- Reads: patterns, suspects
select distinct suspects.config, suspects.id, patterns.kind as what
from suspects
join patterns on regexp_matches(suspects.text, patterns.pattern)
order by config, id, what
