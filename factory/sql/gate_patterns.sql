-- Grain: one row a published text and kind of thing that is found in it; not what was found.
select gate_texts.config, gate_texts.id, patterns.kind as what
from gate_texts
join patterns on regexp_matches(gate_texts.text, patterns.pattern)
order by config, id, what
