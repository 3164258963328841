-- Grain: one row per published prompt without a license.
-- Reads: gate_prompts
select distinct 'prompts' as config, prompt_id as id, left(prompt, 60) as what
from gate_prompts
where trim(coalesce(license, '')) = ''
order by id
