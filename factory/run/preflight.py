"""Check a recipe before anything is generated: faults that would surface only hours later."""

import textwrap
from collections.abc import Sequence
from typing import Any

from factory.engines import check_engine, label_tokens, reward
from factory.errors import PromptsError, RecipeError, RubricError
from factory.lake import load_query
from factory.models import Checkpoint, token_counter
from factory.plan import RecipeState, Step
from factory.recipe import REFERENCE, Judge, OpenaiEngine, VllmEngine
from factory.stages import Rubric, adapter_fields, render_rubric, reserved_fields
from factory.train import check_command, check_fields, check_lora, trainer_fields


def check_before_run(state: RecipeState, wanted: Sequence[Step]) -> None:
    """Raises a UserError if the engine, the trainer, or a judge cannot do what the steps need, or
    if prompts lack a field that a rubric or the policy reads."""
    recipe = state.recipe
    check_engine(recipe.engine, state.rank("M_0"), "engine")
    trained = [step for step in wanted if step.stage == "train"]
    if trained:
        _check_training(state)
    for name in recipe.all_judges:
        _check_judge(state, name)
    if REFERENCE in state.policy.roles:
        reader = f"loop.policy {state.policy.name} takes it as a side of their pairs"
        remedy = "give it with every prompt, or choose another policy"
        _check_prompts(state, {"reference": (reader, remedy)})


def _check_judge(state: RecipeState, name: str) -> None:
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
    # A judge that is shown no reference, or no criteria, would grade by what it makes up.
    shown = {
        field: (
            f"rubric {judge.rubric} shows it to the judge as {{{field}}}",
            "give it with every prompt, or choose another rubric",
        )
        for field in sorted({"reference", "criteria"} & rubric.placeholders)
    }
    _check_prompts(state, shown)
    if recipe.engine_of(model.name).name == "scripted":
        return
    if model.declared is None:
        _check_length(state, judge, rubric, model)
    if judge.expected_score or judge.constrained:
        _check_labels(judge, rubric, model)


def _check_training(state: RecipeState) -> None:
    recipe = state.recipe
    spec, first = recipe.train, state.models["M_0"]
    if isinstance(recipe.engine, OpenaiEngine) and not recipe.one_engine:
        raise RecipeError(
            "engine",
            "a server cannot be given the models that are trained in full",
            "train adapters (train.lora: {}), or use the vllm engine",
        )
    if spec.with_ == "command":
        check_command(recipe)
    if spec.with_ != "trl":
        return
    method = state.policy.trains
    if refused := reserved_fields(spec, method):
        raise RecipeError(f"train.{method}.{refused[0]}", "is set by the factory", "remove it")
    check_fields(method, trainer_fields(recipe, method), first.dtype)
    if first.adapter is not None and spec.lora is None:
        raise RecipeError(
            "train.lora",
            "missing, and M_0 is an adapter",
            "set it (train.lora: {}), so that the loop trains this adapter",
        )
    if spec.lora is not None:
        fields = adapter_fields(spec) or {}
        check_lora(spec.lora, fields, first.path, first.adapter)
        if isinstance(recipe.engine, VllmEngine):
            _check_vllm_lora(fields)


def _check_vllm_lora(fields: dict[str, Any]) -> None:
    """What vLLM 0.32 refuses of an adapter (vllm.lora.peft_helper), said before one is trained."""
    for name in ("use_dora", "lora_bias", "modules_to_save"):
        if fields.get(name):
            raise RecipeError(f"train.lora.{name}", "vLLM takes no adapter with it", "remove it")
    if fields.get("bias", "none") != "none":
        raise RecipeError("train.lora.bias", f"got {fields['bias']}", "vLLM only takes none")


def _check_prompts(state: RecipeState, readers: dict[str, tuple[str, str]]) -> None:
    """Raises PromptsError if prompts lack a field that something reads. `readers` has by field what
    reads it, and the remedy."""
    if not readers:
        return
    for row in state.views().all(load_query("run/empty_fields")):
        if row["field"] in readers and row["empty"]:
            example = textwrap.shorten(row["example"], 60, placeholder=" …")
            reader, remedy = readers[row["field"]]
            raise PromptsError(
                "prompts.files",
                f"{row['empty']:,} of {row['prompts']:,} prompts have no {row['field']} (one is: "
                f"{example}), and {reader}",
                remedy,
            )


def _check_length(state: RecipeState, judge: Judge, rubric: Rubric, model: Checkpoint) -> None:
    room = _context(state, model)
    if room is None:
        return
    needed = token_counter(model)(render_rubric(rubric, {})) + judge.max_tokens
    if needed >= room:
        raise RubricError(
            f"rubric {judge.rubric}",
            f"needs {needed} tokens without a prompt or an answer ({judge.max_tokens} of them "
            f"judge.max_tokens), and the context is {room}",
            "use a shorter rubric, a smaller judge.max_tokens, or a longer context",
        )


def _context(state: RecipeState, model: Checkpoint) -> int | None:
    """The most tokens that prompt and answer may have together, where anything says so."""
    engine = state.recipe.engine_of(model.name)
    limits = [model.context_length]
    if isinstance(engine, VllmEngine):
        limits.append(engine.arguments.get("max_model_len"))
    known = [limit for limit in limits if isinstance(limit, int)]
    return min(known) if known else None


def _check_labels(judge: Judge, rubric: Rubric, model: Checkpoint) -> None:
    if not rubric.labels:
        raise RubricError(
            f"rubric {judge.rubric}",
            f"its scale {list(rubric.scale)} has no labels that can be counted",
            "list them in its header (labels: [1, 2, 3])",
        )
    if judge.constrained:
        for label in rubric.labels:
            if not rubric.pattern.findall(label):
                raise RubricError(
                    f"rubric {judge.rubric}",
                    f"its parser finds no score in the bare label {label}, which is all that "
                    "judge.constrained leaves",
                    "set judge.parser to one that does",
                )
    if judge.expected_score and model.declared is None:
        _check_single_tokens(judge, rubric, model)


def _check_single_tokens(judge: Judge, rubric: Rubric, model: Checkpoint) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.path / "tokenizer.json"))
    found = label_tokens(
        tokenizer.get_vocab(), lambda text: tokenizer.encode(text).tokens, rubric.labels
    )
    if missing := [label for label, tokens in found.items() if not tokens]:
        raise RubricError(
            f"rubric {judge.rubric}",
            f"the label {missing[0]} is no single token for this model, which judge.expected_score "
            "needs",
            "use a scale whose labels are single tokens",
        )
