-- Grain: one row a sample in a role: (iteration, role, model name, prompt, draw).
-- One sample may stand in several roles: roles belong to the recipe, not to the samples. A sample
-- that was asked for with other template_kwargs than the prompt has now is in none.
with generating_roles as (select * from roles where role != 'judge')

select
    generating_roles.iteration,
    generating_roles.role,
    generating_roles.name,
    generating_roles.parser,
    prompts.split,
    samples.*
from samples
join generating_roles
    on samples.sampling = generating_roles.sampling
    and samples.draw >= generating_roles.first_draw
    and samples.draw < generating_roles.first_draw + generating_roles.n_draws
join prompts
    on prompts.prompt_id = samples.prompt_id
    and (prompts.split = 'probe') = (generating_roles.role = 'probe')
    and (prompts.iteration = generating_roles.iteration or prompts.split = 'probe')
    and samples.request_id
    = row_id(generating_roles.asked, prompts.prompt_id, coalesce(prompts.template_kwargs, ''))
