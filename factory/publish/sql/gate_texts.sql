-- Grain: one row per published text in any of the tables.
-- Reads: candidates, judgments, models, prompts
select
    'prompts' as config,
    prompt_id as id,
    unnest(
        list_transform(
            messages,
            lambda m: concat_ws(' ', m.content, m.reasoning, m.tool_calls, m.tool_call_id, m.name)
        )
    ) as text
from prompts
union all
select
    'prompts',
    prompt_id,
    concat_ws(' ', reference, criteria, meta, tools, template_kwargs, source, license)
from prompts
union all
select 'candidates', sample_id, concat_ws(' ', reasoning, text, tool_calls, error)
from candidates
union all
select 'judgments', judgment_id, concat_ws(' ', reasoning, text, error)
from judgments
union all
select 'models', digest, settings
from models
