"""Which stages each field decides, and what a model's generation_config adds to a recipe."""

from collections.abc import Mapping
from typing import Any, TypeVar

from factory.recipe.recipe import Recipe
from factory.recipe.sections import JUDGE, NEUTRAL, Generation, Pairs, StopIf

DECIDES: dict[str, tuple[str, ...]] = {
    # Bears identity: a change makes these stages again, and what they change after them.
    "seed": ("samples", "judgments", "train"),
    "model.path": ("samples", "judgments"),  # by the model's digest, not by where it lies
    "model.revision": ("samples", "judgments"),
    "model.dtype": ("samples", "judgments"),
    "model.adapter": ("samples", "judgments"),
    "prompts.files": ("prompts",),
    "prompts.on_error": ("prompts",),
    "prompts.source": ("prompts",),
    "prompts.license": ("prompts",),
    "prompts.test_fraction": ("pairs",),
    "loop.policy": ("pairs",),
    "loop.iterations": ("pairs",),
    "loop.chunks": ("pairs",),
    "sampling.temperature": ("samples",),
    "sampling.top_p": ("samples",),
    "sampling.top_k": ("samples",),
    "sampling.min_p": ("samples",),
    "sampling.repetition_penalty": ("samples",),
    "sampling.reasoning": ("samples",),
    "sampling.max_tokens": ("prompts", "samples"),  # prompts too long for it are refused
    "judge.temperature": ("judgments",),
    "judge.top_p": ("judgments",),
    "judge.top_k": ("judgments",),
    "judge.min_p": ("judgments",),
    "judge.repetition_penalty": ("judgments",),
    "judge.reasoning": ("judgments",),
    "judge.max_tokens": ("judgments",),
    "judge.expected_score": ("judgments",),
    "judge.constrained": ("judgments",),
    "judge.rubric": ("judgments", "verdicts"),  # its prompt, and its parser and scale, apart
    "judge.function": ("judgments",),
    "judge.by": ("judgments",),
    "judge.declared": ("judgments",),
    "judges": ("judgments", "verdicts"),  # each field as that of `judge`
    "judge.parser": ("verdicts",),
    "judge.scale": ("verdicts",),
    **{f"pairs.{name}": ("pairs",) for name in Pairs.model_fields},
    "probe.files": ("prompts",),
    "probe.function": ("judgments",),
    "engine.script": ("samples", "judgments"),  # it is what answers
    "engine.model": ("samples", "judgments"),  # the server's name for it
    "train.with": ("train",),
    "train.lora": ("train",),
    "train.command": ("train",),
    "train.dpo": ("train",),  # but for the fields that `stages.train` lists as how it is run
    "train.sft": ("train",),  # the same; each of a policy that trains so
    # Outside every key: only the rows that are missing are asked for, and what reads the rows
    # changes with them.
    "sampling.draws": (),
    "judge.draws": (),
    "judge.opponents": (),
    "probe.draws": (),
    # How it is run.
    "name": (),
    "prompts.language": (),
    "max_failed": (),
    "judge.timeout": (),
    "probe.timeout": (),
    "query_memory": (),
    **{f"stop_if.{name}": () for name in StopIf.model_fields},
    "train.checkpoint_seconds": (),
    "train.launcher": (),
    "train.environment": (),
    "engine.name": (),  # but for scripted, whose answers are no model's
    "engine.device": (),
    "engine.batch_size": (),
    "engine.window": (),
    "engine.delay": (),
    "engine.replicas": (),
    "engine.max_restarts": (),
    "engine.hang_seconds": (),
    "engine.base_url": (),
    "engine.key": (),
    "engine.concurrency": (),
    "engine.timeout": (),
    "engine.max_retries": (),
    "engine.native_n": (),
    "engine.price_prompt": (),
    "engine.price_generated": (),
    "shards.rows": (),
    "shards.seconds": (),
}

DECIDES |= {
    f"judge.{place}{field}": ("judgments",) if stages else ()
    for field, stages in DECIDES.items()
    for place in ("", *(["reward_"] if field.startswith("model.") else []))
    if field.startswith(("model.", "engine."))
}
"""Every field of a recipe and the stages whose keys it enters; tested field by field. vLLM's own
arguments are told apart by VLLM_IDENTITY."""


def resolved(recipe: Recipe, said: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe with what models' generation_config says where it is silent (NEUTRAL): `said` is
    that of M_0 by `sampling`, and that of each judge by its name."""

    def section(name: str, written: _Generates) -> _Generates:
        config = said.get(name, {})
        fields = {
            field: config[field]
            for field in NEUTRAL
            if getattr(written, field) is None and is_number(config.get(field))
        }
        return written.model_copy(update=fields)

    return recipe.model_copy(
        update={
            "sampling": section("sampling", recipe.sampling),
            "judge": section(JUDGE, recipe.judge),
            "judges": {name: section(name, judge) for name, judge in recipe.judges.items()},
        }
    )


_Generates = TypeVar("_Generates", bound=Generation)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
