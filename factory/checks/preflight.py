"""Check a recipe before a run to catch problems that could otherwise appear hours later.

`check_recipe` needs neither the models nor this machine's packages, so `factory plan` and
`factory doctor` use it too.
"""

import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from factory.engines import LabelTree, check_engine, label_tree, reward
from factory.errors import MissingExtra, ModelError, PromptsError, RecipeError, RubricError
from factory.lake import load_query
from factory.models import (
    Checkpoint,
    auto_tokenizer,
    check_all_weights,
    check_prompt_shown,
    check_turn_end,
    fast_tokenizer,
    prints_date,
    read_templates,
    token_counter,
)
from factory.plan import RecipeState, Step, missing_packages, steps
from factory.recipe import REFERENCE, Engine, Generation, Judge, OpenaiEngine, VllmEngine
from factory.stages import Rubric, adapter_fields, render_rubric, reserved_fields
from factory.train import (
    check_adapter_fields,
    check_command,
    check_fields,
    check_lora,
    check_trl_fields,
    trainer_fields,
)

_STOPPED = ("transformers", "vllm")
"""Names of the engines that get their stop tokens from the factory."""

VLLM_MOST_TOKENS = 128
"""Maximum number of tokens whose log-probabilities vLLM 0.32 reports at one position
(vllm.sampling_params.MAX_LOGPROB_TOKEN_IDS)."""


def check_recipe(state: RecipeState) -> None:
    """Check a recipe's engines, trainer, judges, and prompts.

    Needs no model. Skips the fields of packages that are not installed. Raises UserError if a run
    would fail, for example because a prompt lacks a field that a rubric or the policy reads.
    """
    recipe = state.recipe
    if any(step.stage == "train" for step in steps(recipe)):
        _check_training_fields(state)
    with suppress(MissingExtra):
        check_engine(recipe.engine, state.rank("M_0"), "engine")
    for name in recipe.all_judges:
        _check_judge_fields(state, name)
    if REFERENCE in state.policy.roles:
        reader = f"the policy {state.policy.name} uses the reference as one side of each pair"
        remedy = "add a reference to every prompt, or choose another loop.policy"
        _check_prompts(state, {"reference": (reader, remedy)})


def check_packages(state: RecipeState, wanted: Sequence[Step]) -> None:
    """Raise MissingExtra if one of the given steps needs a package that is not installed.

    Finished steps need no packages.
    """
    done = {step for step, found in state.steps.items() if found.done}
    for missing in missing_packages(state.recipe, (step for step in wanted if step not in done)):
        raise missing


def check_before_run(state: RecipeState, wanted: Sequence[Step]) -> None:
    """Check a recipe, its models, and this machine before the given steps run.

    Raises UserError if a step would fail.
    """
    check_recipe(state)
    check_models(state)
    if any(step.stage == "train" for step in wanted):
        _check_training(state)
    if state.recipe.engine.name == "transformers" and "M_0" in state.models:
        check_all_weights(state.models["M_0"].path, state.models["M_0"].field)
        with suppress(MissingExtra):
            auto_tokenizer(state.models["M_0"])
    for name, judge in state.recipe.all_judges.items():
        model = state.models[state.recipe.first_model_of_judge(name)]
        loads_judge = judge.has_rubric and model.name != "M_0" and model.adapter is None
        if loads_judge and state.recipe.engine_of(model.name).name == "transformers":
            check_all_weights(model.path, model.field)


def check_models(state: RecipeState) -> None:
    """Check the models of a recipe that are on this machine, without loading their weights.

    Raises a UserError if a model does not fit its engine or its rubric.
    """
    recipe, models = state.recipe, state.models
    for model in models.values():
        if model.declared is None and (found := read_templates(model.path, model.field)):
            found.check(model.field)
    if "M_0" in models:
        _check_server(recipe.engine, models["M_0"], recipe.sampling, "sampling")
    judges = [name for name in recipe.all_judges if state.opened.rubrics[name] is not None]
    for name in dict.fromkeys(["M_0", *map(recipe.first_model_of_judge, judges)]):
        if name in models and recipe.engine_of(name).name in _STOPPED:
            check_prompt_shown(models[name])
            check_turn_end(models[name])
    for name in recipe.all_judges:
        if (judge_model := models.get(recipe.first_model_of_judge(name))) is not None:
            _check_judge_model(state, name, judge_model)


def _check_judge_model(state: RecipeState, name: str, model: Checkpoint) -> None:
    """Check that a judge's model fits its rubric."""
    recipe = state.recipe
    judge, rubric = recipe.all_judges[name], state.opened.rubrics[name]
    if judge.reward_model is not None:
        reward.check_reward_model(model)
    if rubric is None:
        return
    _check_server(recipe.engine_of(model.name), model, judge, recipe.field_of(name))
    if model.declared is not None or _is_scripted(state, name):
        return
    _check_length(state, judge, rubric, model)
    if judge.expected_score or judge.constrained:
        _check_tokens(judge, rubric, model, recipe.engine_of(model.name))


def _is_scripted(state: RecipeState, name: str) -> bool:
    recipe = state.recipe
    return recipe.engine_of(recipe.first_model_of_judge(name)).name == "scripted"


def _check_judge_fields(state: RecipeState, name: str) -> None:
    """Check a judge's engine and labels, and the prompt fields that its rubric shows."""
    recipe = state.recipe
    judge, rubric = recipe.all_judges[name], state.opened.rubrics[name]
    if judge.engine is not None:
        rank = state.rank(recipe.first_model_of_judge(name))
        with suppress(MissingExtra):
            check_engine(judge.engine, rank, f"{recipe.field_of(name)}.engine")
    if rubric is None:
        return
    # A judge would invent a reference or criteria that its rubric mentions but does not show.
    shown = {
        field: (
            f"the rubric {judge.rubric} shows {{{field}}} to the judge",
            f"add {field} to every prompt, or choose another rubric",
        )
        for field in sorted({"reference", "criteria"} & rubric.placeholders)
    }
    _check_prompts(state, shown)
    if (judge.expected_score or judge.constrained) and not _is_scripted(state, name):
        _check_labels(judge, rubric)


def _check_server(engine: Engine, model: Checkpoint, generation: Generation, field: str) -> None:
    """Raise UserError if a server would change a model's prompts or answers.

    `field` is the recipe section of the sampling settings.
    """
    if not isinstance(engine, OpenaiEngine) or model.declared is not None:
        return
    if prints_date(model.path, model.field):
        raise ModelError(
            model.field,
            "the chat template prints the current date, which a server cannot replace",
            "write a fixed date into the chat template, and start the server with this template",
        )
    if tags := {*(generation.reasoning or ())} & {*model.special_tokens}:
        raise RecipeError(
            f"{field}.reasoning",
            f"servers remove the tag {min(tags)} from answers, because it is a special token",
            "start the server with a reasoning parser, and remove this field",
        )


def _check_training_fields(state: RecipeState) -> None:
    """Check the fields of the trainer, and that the engine can load the models that it trains."""
    recipe, spec = state.recipe, state.recipe.train
    if isinstance(recipe.engine, OpenaiEngine) and not recipe.one_engine:
        raise RecipeError(
            "engine",
            "the openai engine cannot load fully fine-tuned models",
            "train adapters (train.lora: {}), or set engine.name to vllm",
        )
    if spec.with_ != "trl":
        return
    method = state.policy.trains
    if refused := reserved_fields(spec, method):
        raise RecipeError(
            f"train.{method}.{refused[0]}",
            "the factory sets this field",
            "remove this field from the recipe",
        )
    with suppress(MissingExtra):
        check_trl_fields(method, spec.fields(method))
    if recipe.model.adapter is not None and spec.lora is None:
        raise RecipeError(
            "train.lora",
            "the base model M_0 has an adapter, but the recipe does not train adapters",
            "set train.lora, for example to {}, so that the loop trains this adapter",
        )
    if spec.lora is not None:
        fields = adapter_fields(spec) or {}
        with suppress(MissingExtra):
            check_adapter_fields(fields)
        if isinstance(recipe.engine, VllmEngine):
            _check_vllm_lora(fields)


def _check_training(state: RecipeState) -> None:
    """Check that this machine's trainer can train the recipe's models."""
    recipe, first, method = state.recipe, state.models["M_0"], state.policy.trains
    spec = recipe.train
    if spec.with_ == "command":
        check_command(recipe)
    if spec.with_ == "trl":
        check_fields(method, trainer_fields(recipe, method), first.dtype)
        if recipe.engine.name != "transformers":  # or else M_0 is checked for its engine
            check_all_weights(first.path, first.field)
        if spec.lora is not None:
            check_lora(spec.lora, adapter_fields(spec) or {}, first.path, first.adapter)


def _check_vllm_lora(fields: dict[str, Any]) -> None:
    """Raise RecipeError for LoRA settings whose adapters vLLM 0.32 cannot load.

    The settings are those that vllm.lora.peft_helper rejects.
    """
    for name in ("use_dora", "lora_bias", "modules_to_save"):
        if fields.get(name):
            raise RecipeError(
                f"train.lora.{name}",
                "vLLM cannot load adapters trained with this setting",
                "remove this setting",
            )
    if fields.get("bias", "none") != "none":
        raise RecipeError(
            "train.lora.bias",
            f"got {fields['bias']}",
            "set train.lora.bias to none, the only value that vLLM supports",
        )


def _check_prompts(state: RecipeState, readers: dict[str, tuple[str, str]]) -> None:
    """Raise PromptsError if a prompt lacks a required field.

    `readers` maps each required field to two texts for the message: what reads the field, and the
    remedy.
    """
    if not readers:
        return
    for row in state.views().all(load_query("checks/empty_fields")):
        if row["field"] in readers and row["empty"]:
            example = textwrap.shorten(row["example"], 60, placeholder=" …")
            reader, remedy = readers[row["field"]]
            raise PromptsError(
                "prompts.files",
                f"{row['empty']:,} of {row['prompts']:,} prompts have no {row['field']} (for "
                f"example, {example}), but {reader}",
                remedy,
            )


def _check_length(state: RecipeState, judge: Judge, rubric: Rubric, model: Checkpoint) -> None:
    """Raise RubricError if the rubric and `judge.max_tokens` alone fill the judge's context."""
    room = _context(state, model)
    if room is None:
        return
    needed = token_counter(model)(render_rubric(rubric, {})) + judge.max_tokens
    if needed >= room:
        raise RubricError(
            f"rubric {judge.rubric}",
            f"the rubric and judge.max_tokens ({judge.max_tokens}) together need {needed} tokens, "
            f"but the judge's context length is {room} tokens",
            "shorten the rubric, lower judge.max_tokens, or use a judge with a longer context",
        )


def _context(state: RecipeState, model: Checkpoint) -> int | None:
    """Return the maximum number of tokens of prompt and answer together; None if unknown."""
    engine = state.recipe.engine_of(model.name)
    limits = [model.context_length]
    if isinstance(engine, VllmEngine):
        limits.append(engine.arguments.get("max_model_len"))
    known = [limit for limit in limits if isinstance(limit, int)]
    return min(known) if known else None


def _check_labels(judge: Judge, rubric: Rubric) -> None:
    """Raise RubricError if `constrained` or `expected_score` cannot use the rubric's labels."""
    if not rubric.labels:
        raise RubricError(
            f"rubric {judge.rubric}",
            f"the rubric has the scale {list(rubric.scale)} but no labels",
            "list the labels in the rubric's header (labels: [1, 2, 3])",
        )
    for label in rubric.labels:
        found = rubric.pattern.findall(label) if judge.constrained else [label]
        if not found:
            raise RubricError(
                f"rubric {judge.rubric}",
                "judge.constrained limits the judge to labels, but judge.parser finds no "
                f"score in the label {label} alone",
                "remove judge.parser, because the default parser of a constrained judge accepts "
                "labels alone",
            )
        read = {label, *found} if judge.expected_score else found
        if not rubric.compares and not all(map(rubric.is_score, read)):
            raise RubricError(
                f"rubric {judge.rubric}",
                f"the label {label} is not a number",
                "give each label its score in the rubric's header, such as "
                "labels: {bad: 0, good: 1}",
            )


def _check_tokens(judge: Judge, rubric: Rubric, model: Checkpoint, engine: Engine) -> None:
    """Raise RubricError if the judge's tokenizer cannot spell a label, or if the engine cannot
    report the log-probabilities of its tokens."""
    tokenizer = fast_tokenizer(model)

    def encode(text: str) -> list[str]:
        tokens: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens
        return tokens

    tree = label_tree(tokenizer.get_vocab(), encode, rubric.labels)
    for label, spellings in tree.spellings.items():
        texts = {tokenizer.decode(list(spelling)).strip() for spelling in spellings}
        if texts != {label.strip()}:
            raise RubricError(
                f"rubric {judge.rubric}",
                f"the judge's tokenizer cannot spell the label {label}",
                "use other labels, such as numbers",
            )
    if judge.expected_score:
        _check_logprobs(judge, tree, engine)


def _check_logprobs(judge: Judge, tree: LabelTree, engine: Engine) -> None:
    """Raise RubricError if an engine cannot report the log-probabilities of the labels' tokens."""
    long = [label for label, spellings in tree.spellings.items() if max(map(len, spellings)) > 1]
    if isinstance(engine, OpenaiEngine) and long:
        raise RubricError(
            f"rubric {judge.rubric}",
            f"the judge's tokenizer splits the label {long[0]} into several tokens, but the "
            "openai engine cannot request their probabilities",
            "use labels that are single tokens, or the vllm or transformers engine",
        )
    most = tree.most_next_tokens
    if isinstance(engine, VllmEngine) and most > VLLM_MOST_TOKENS:
        raise RubricError(
            f"rubric {judge.rubric}",
            f"the labels begin with {most} different tokens, but vLLM reports the probabilities of "
            f"at most {VLLM_MOST_TOKENS} tokens",
            "use a scale with fewer labels",
        )
