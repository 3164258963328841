"""Check a recipe before a run to catch problems that could otherwise appear hours later.

`check_recipe` needs neither the models nor this machine's packages, so `factory plan` and
`factory doctor` use it too.
"""

import textwrap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from factory.engines import check_engine, label_tokens, reward
from factory.errors import MissingExtra, PromptsError, RecipeError, RubricError
from factory.lake import load_query
from factory.models import Checkpoint, token_counter
from factory.plan import RecipeState, Step, missing_packages, steps
from factory.recipe import REFERENCE, Judge, OpenaiEngine, VllmEngine
from factory.stages import Rubric, adapter_fields, render_rubric, reserved_fields
from factory.train import (
    check_adapter_fields,
    check_command,
    check_fields,
    check_lora,
    check_trl_fields,
    trainer_fields,
)


def check_recipe(state: RecipeState) -> None:
    """Check a recipe's engines, trainer, judges, and prompts.

    Needs no model. Skips the fields of packages that are not installed. Raises a UserError if a run
    could not be completed, for example if a prompt lacks a field that a rubric or the policy reads.
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
    """Raise MissingExtra if a package is missing that one of the given steps needs.

    Steps that are known to be done need none.
    """
    done = {step for step, found in state.steps.items() if found.done}
    for missing in missing_packages(state.recipe, (step for step in wanted if step not in done)):
        raise missing


def check_before_run(state: RecipeState, wanted: Sequence[Step]) -> None:
    """Check a recipe, its models, and this machine before the given steps run.

    Raises a UserError if the steps could not be completed.
    """
    check_recipe(state)
    if any(step.stage == "train" for step in wanted):
        _check_training(state)
    for name in state.recipe.all_judges:
        _check_judge_model(state, name)


def _check_judge_model(state: RecipeState, name: str) -> None:
    """Check that a judge's model fits its rubric."""
    recipe = state.recipe
    judge, rubric = recipe.all_judges[name], state.opened.rubrics[name]
    model = state.models[recipe.model_of_judge(name) if judge.has_model else "M_0"]
    if judge.reward_model is not None:
        reward.check_reward_model(model)
    elif rubric is not None and model.declared is None and not _is_scripted(state, name):
        _check_length(state, judge, rubric, model)
        if judge.expected_score:
            _check_single_tokens(judge, rubric, model)


def _is_scripted(state: RecipeState, name: str) -> bool:
    recipe = state.recipe
    own = recipe.model_of_judge(name) if recipe.all_judges[name].has_model else "M_0"
    return recipe.engine_of(own).name == "scripted"


def _check_judge_fields(state: RecipeState, name: str) -> None:
    """Check a judge's engine and labels, and the prompt fields that its rubric shows."""
    recipe = state.recipe
    judge, rubric = recipe.all_judges[name], state.opened.rubrics[name]
    if judge.engine is not None:
        rank = state.rank(recipe.model_of_judge(name) if judge.has_model else "M_0")
        with suppress(MissingExtra):
            check_engine(judge.engine, rank, f"{recipe.field_of(name)}.engine")
    if rubric is None:
        return
    # Without the reference or the criteria that its rubric mentions, a judge would invent them.
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

    `readers` maps each required field to its reader and a remedy, both as text for the message.
    """
    if not readers:
        return
    for row in state.views().all(load_query("run/empty_fields")):
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
    if judge.constrained:
        for label in rubric.labels:
            if not rubric.pattern.findall(label):
                raise RubricError(
                    f"rubric {judge.rubric}",
                    "judge.constrained limits the judge to labels, but judge.parser finds no "
                    f"score in the label {label} alone",
                    "remove judge.parser, because a constrained judge has a default parser that "
                    "accepts labels alone",
                )


def _check_single_tokens(judge: Judge, rubric: Rubric, model: Checkpoint) -> None:
    """Raise RubricError if a label of the rubric is not a single token of the judge's tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.path / "tokenizer.json"))
    found = label_tokens(
        tokenizer.get_vocab(), lambda text: tokenizer.encode(text).tokens, rubric.labels
    )
    if missing := [label for label, tokens in found.items() if not tokens]:
        raise RubricError(
            f"rubric {judge.rubric}",
            "judge.expected_score requires single-token labels, but the judge's tokenizer has "
            f"no single token for the label {missing[0]}",
            "use a scale whose labels are single tokens",
        )
