-- Grain: one row per sample in a role: (iteration, role, model name, prompt, draw).
-- A sample may have several roles, since the recipe assigns the roles. A sample has no role if the
-- prompt's template_kwargs have changed since then, or if it is a copy of an outdated reference.
-- The request is hashed once per prompt, not once per sample, to save time.
-- Reads: prompts, roles, samples
with requested as (
    select
        roles.* exclude (request_key),
        prompts.split,
        row_id(
            roles.request_key,
            prompts.prompt_id,
            asked_beside(
                roles.role,
                prompts.template_kwargs,
                prompts.reference,
                prompts.tools,
                prompts.messages
            )
        ) as request_id
    from roles
    join prompts
        on (prompts.split = 'probe') = (roles.role = 'probe')
        and (prompts.iteration = roles.iteration or prompts.split = 'probe')
    where roles.role != 'judge'
)

select
    requested.iteration,
    requested.role,
    requested.name,
    requested.parser_key,
    requested.n_judge_draws,
    requested.split,
    samples.*
from samples
join requested
    on samples.request_id = requested.request_id
    and samples.sampling_key = requested.sampling_key
    and samples.draw >= requested.first_draw
    and samples.draw < requested.first_draw + requested.n_draws
