-- Grain: one row a sample in a role: (iteration, role, model name, prompt, draw).
-- One sample may stand in several roles: roles belong to the recipe, not to the samples. A sample
-- that was asked for with other template_kwargs than the prompt has now is in none, and so is the
-- sample of a reference that is no longer the prompt's.
-- What a role asks is hashed once a prompt, and not once a sample.
with asked as (
    select
        roles.* exclude (asked),
        prompts.split,
        row_id(
            roles.asked,
            prompts.prompt_id,
            asked_beside(roles.role, prompts.template_kwargs, prompts.reference)
        ) as request_id
    from roles
    join prompts
        on (prompts.split = 'probe') = (roles.role = 'probe')
        and (prompts.iteration = roles.iteration or prompts.split = 'probe')
    where roles.role != 'judge'
)

select
    asked.iteration,
    asked.role,
    asked.name,
    asked.parser,
    asked.n_judge_draws,
    asked.split,
    samples.*
from samples
join asked
    on samples.request_id = asked.request_id
    and samples.sampling = asked.sampling
    and samples.draw >= asked.first_draw
    and samples.draw < asked.first_draw + asked.n_draws
