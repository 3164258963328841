"""Check a recipe before a run to catch problems that could otherwise appear hours later."""

import textwrap
from collections.abc import Sequence
from typing import Any

from factory.engines import check_engine, label_tokens, reward
from factory.errors import PromptsError, RecipeError, RubricError
from factory.lake import load_query
from factory.models import Checkpoint, check_turn_end, token_counter
from factory.plan import RecipeState, Step
from factory.recipe import REFERENCE, Judge, OpenaiEngine, VllmEngine
from factory.stages import Rubric, adapter_fields, render_rubric, reserved_fields
from factory.train import check_command, check_fields, check_lora, trainer_fields

_STOPPED = ("transformers", "vllm")
"""Names of the engines that the factory tells at which tokens to stop."""


def check_before_run(state: RecipeState, wanted: Sequence[Step]) -> None:
    """Check a recipe's engines, trainer, judges, and prompts before the given steps run.

    Raises a UserError if the steps could not be completed, for example if a prompt lacks a field
    that a rubric or the policy reads.
    """
    recipe = state.recipe
    check_engine(recipe.engine, state.rank("M_0"), "engine")
    if recipe.engine.name in _STOPPED:
        check_turn_end(state.models["M_0"])
    trained = [step for step in wanted if step.stage == "train"]
    if trained:
        _check_training(state)
    for name in recipe.all_judges:
        _check_judge(state, name)
    if REFERENCE in state.policy.roles:
        reader = f"the policy {state.policy.name} uses the reference as one side of each pair"
        remedy = "add a reference to every prompt, or choose another loop.policy"
        _check_prompts(state, {"reference": (reader, remedy)})


def _check_judge(state: RecipeState, name: str) -> None:
    """Check a judge's model, engine, and rubric, and the prompt fields that the rubric shows."""
    recipe = state.recipe
    judge, rubric = recipe.all_judges[name], state.opened.rubrics[name]
    own = recipe.model_of_judge(name) if judge.has_model else None
    model = state.models[own or "M_0"]
    if judge.reward_model is not None:
        reward.check_reward_model(model)
        return
    if judge.engine is not None:
        check_engine(judge.engine, state.rank(model.name), f"{recipe.field_of(name)}.engine")
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
    engine = recipe.engine_of(model.name)
    if engine.name == "scripted":
        return
    if engine.name in _STOPPED:
        check_turn_end(model)
    if model.declared is None:
        _check_length(state, judge, rubric, model)
    if judge.expected_score or judge.constrained:
        _check_labels(judge, rubric, model)


def _check_training(state: RecipeState) -> None:
    """Check that the trainer can train the recipe's models, and that the engine can load them."""
    recipe = state.recipe
    spec, first = recipe.train, state.models["M_0"]
    if isinstance(recipe.engine, OpenaiEngine) and not recipe.one_engine:
        raise RecipeError(
            "engine",
            "the openai engine cannot load fully fine-tuned models",
            "train adapters (train.lora: {}), or set engine.name to vllm",
        )
    if spec.with_ == "command":
        check_command(recipe)
    if spec.with_ != "trl":
        return
    method = state.policy.trains
    if refused := reserved_fields(spec, method):
        raise RecipeError(
            f"train.{method}.{refused[0]}",
            "the factory sets this field",
            "remove this field from the recipe",
        )
    check_fields(method, trainer_fields(recipe, method), first.dtype)
    if first.adapter is not None and spec.lora is None:
        raise RecipeError(
            "train.lora",
            "the base model M_0 has an adapter, but the recipe does not train adapters",
            "set train.lora, for example to {}, so that the loop trains this adapter",
        )
    if spec.lora is not None:
        fields = adapter_fields(spec) or {}
        check_lora(spec.lora, fields, first.path, first.adapter)
        if isinstance(recipe.engine, VllmEngine):
            _check_vllm_lora(fields)


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


def _check_labels(judge: Judge, rubric: Rubric, model: Checkpoint) -> None:
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
    if judge.expected_score and model.declared is None:
        _check_single_tokens(judge, rubric, model)


def _check_single_tokens(judge: Judge, rubric: Rubric, model: Checkpoint) -> None:
    """Raise RubricError if a label of the rubric is not a single token of the judge's tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.path / "tokenizer.json"))
    found = label_tokens(
        tokenizer.get_vocab(),
        lambda text: tokenizer.encode(text, add_special_tokens=False).tokens,
        rubric.labels,
    )
    if missing := [label for label, tokens in found.items() if not tokens]:
        raise RubricError(
            f"rubric {judge.rubric}",
            "judge.expected_score requires single-token labels, but the judge's tokenizer has "
            f"no single token for the label {missing[0]}",
            "use a scale whose labels are single tokens",
        )
