"""Tests of which stages rerun after a change to a recipe."""

import json

import pytest

from factory.errors import RecipeError
from factory.models import as_run
from factory.recipe import DECIDES, VLLM_IDENTITY, Recipe, resolved

EVERYTHING = {"samples", "judgments", "verdicts", "pairs", "train"}

# Each change, and the stages that rerun at least one step after it. Later stages follow earlier
# ones: different samples lead to different judgments, verdicts, pairs, and trainings.
CHANGES = {
    "sampling.temperature": ("sampling.temperature=0.5", EVERYTHING),
    "sampling.top_p": ("sampling.top_p=0.5", EVERYTHING),
    "sampling.top_k": ("sampling.top_k=5", EVERYTHING),
    "sampling.min_p": ("sampling.min_p=0.1", EVERYTHING),
    "sampling.repetition_penalty": ("sampling.repetition_penalty=1.1", EVERYTHING),
    "sampling.reasoning": ("sampling.reasoning=[<a>, </a>]", EVERYTHING),
    "sampling.max_tokens": ("sampling.max_tokens=65", {"samples"}),
    "seed": ("seed=1", EVERYTHING),
    "model.dtype": ("model.dtype=bfloat16", EVERYTHING),
    "judge.temperature": ("judge.temperature=0.5", EVERYTHING - {"samples"}),
    "judge.top_p": ("judge.top_p=0.5", EVERYTHING - {"samples"}),
    "judge.top_k": ("judge.top_k=5", EVERYTHING - {"samples"}),
    "judge.min_p": ("judge.min_p=0.1", EVERYTHING - {"samples"}),
    "judge.repetition_penalty": ("judge.repetition_penalty=1.1", EVERYTHING - {"samples"}),
    "judge.reasoning": ("judge.reasoning=[<a>, </a>]", EVERYTHING - {"samples"}),
    "judge.expected_score": ("judge.expected_score=true", EVERYTHING - {"samples"}),
    "judge.constrained": ("judge.constrained=true", EVERYTHING - {"samples"}),
    "judge.max_tokens": ("judge.max_tokens=65", {"judgments", "verdicts"}),
    "judge.function": ("judge.function='gold.py:grade'", EVERYTHING - {"samples"}),
    "judge.scale": ("judge.scale=[0, 4]", {"verdicts", "pairs", "train"}),
    "judge.parser": ("judge.parser='Score: ([0-4])'", {"verdicts", "pairs", "train"}),
    "loop.policy": ("loop.policy=self_rewarding", {"pairs", "train"}),
    "loop.chunks": ("loop.chunks=5", {"pairs", "train"}),
    "prompts.test_fraction": ("prompts.test_fraction=0.9", {"pairs", "train"}),
    "prompts.source": ("prompts.source=there", {"prompts"}),
    "prompts.license": ("prompts.license=MIT", {"prompts"}),
    "prompts.on_error": ("prompts.on_error=skip", {"prompts"}),
    **{
        f"pairs.{change.split('=')[0]}": (f"pairs.{change}", {"pairs", "train"})
        for change in (
            "min_margin=0.5",
            "min_margin_to_noise=0.5",
            "length_control=0.2",
            "max_length_ratio=2",
            "max_similarity=0.5",
            "drop_truncated=true",
            "ties=shorter",
            "per_prompt=2",
        )
    },
    "train.dpo": ("train.dpo.beta=0.2", {"train"}),
    "train.lora": ("train.lora={r: 8}", {"train"}),
    "train.with": ("train.with=trl", {"train"}),
    "engine.script": ("engine.script='script.py:answer'", EVERYTHING),
    "max_length of DPOConfig": ("train.dpo.max_length=null", {"train"}),
}

NOTHING = {
    "name": "name=other",
    "prompts.language": "prompts.language=[en]",
    "max_failed": "max_failed=0.5",
    "judge.timeout": "judge.timeout=5",
    "query_memory": "query_memory=500MB",
    "stop_if.truncated": "stop_if.truncated=0.9",
    "stop_if.unparsed": "stop_if.unparsed=0.9",
    "stop_if.equal_scores": "stop_if.equal_scores=false",
    "stop_if.ties": "stop_if.ties=0.9",
    "stop_if.probe_falls": "stop_if.probe_falls=2",
    "train.launcher": "train.launcher=[--num_processes, '2']",
    "train.checkpoint_seconds": "train.checkpoint_seconds=5",
    "engine.delay": "engine.delay=0.5",
    "engine.replicas": "engine.replicas=2",
    "engine.max_restarts": "engine.max_restarts=1",
    "engine.hang_seconds": "engine.hang_seconds=5",
    "a setting that changes nothing": "sampling={draws: 3, max_tokens: 64, top_k: 0, min_p: 0.0, "
    "repetition_penalty: 1.0}",
    "shards.rows": "shards.rows=7",
    "shards.seconds": "shards.seconds=7",
    "logging_steps of DPOConfig": "train.dpo.logging_steps=3",
    "gradient_checkpointing of DPOConfig": "train.dpo.gradient_checkpointing=false",
}


SCRIPT = "def answer(messages, seed):\n    return 'four'\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from toys import Toy

    toy = Toy(tmp_path_factory.mktemp("identity") / "toy", n_prompts=30)
    (toy.folder / "script.py").write_text(SCRIPT)
    toy.run()
    return toy


def until_first_training(toy, *overrides):
    """Return the stages that must rerun, up to the first training."""
    stages = set()
    for step, at in toy.look(*overrides).steps.items():
        if not at.done:
            stages.add(step.stage)
        if step.stage == "train":
            return stages
    return stages


def first_missing(toy, *overrides):
    """Return the stages of the steps that can run now, without waiting for other steps."""
    found = toy.look(*overrides).steps
    return {step.stage for step, at in found.items() if not at.done and at.waits_for is None}


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_of_what_decides_the_data_makes_its_dependants_again(made, field):
    override, stages = CHANGES[field]
    again = until_first_training(made, override)
    # A new limit on length makes the same scripted answers, so what follows them is unchanged;
    # before it is run nobody can know.
    if field.endswith("max_tokens"):
        assert stages <= again
        assert "samples" in again or field.startswith("judge")
    else:
        assert again == stages


@pytest.mark.parametrize("field", NOTHING)
def test_a_change_of_how_it_is_run_makes_nothing_again(made, field):
    assert made.to_do(NOTHING[field]) == set()


@pytest.mark.slow
def test_another_place_for_the_lake_makes_nothing_again(made, tmp_path):
    made.lake.rename(tmp_path / "moved")
    try:
        made.lake, here = tmp_path / "moved", made.lake
        assert made.to_do() == set()
    finally:
        made.lake = here
        (tmp_path / "moved").rename(here)


def test_the_same_model_in_another_place_makes_nothing_again(made):
    (made.folder / "m0").rename(made.folder / "elsewhere")
    try:
        assert made.to_do("model=elsewhere") == set()
    finally:
        (made.folder / "elsewhere").rename(made.folder / "m0")


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja", "tokenizer.json"])
def test_other_weights_template_or_tokenizer_make_everything_again(made, name):
    file = made.folder / "m0" / name
    file.write_text("other")
    try:
        assert made.to_do() >= EVERYTHING
    finally:
        file.unlink()
    assert made.to_do() == set()


def test_a_rubric_s_prompt_makes_judgments_again_and_its_parser_only_verdicts(toy):
    rubric = "---\nscale: [0, 5]\nparser: 'Score: (\\d)'\n---\n{prompt} {answer} Score?"
    (toy.folder / "rubric.md").write_text(rubric)
    toy.write(judge={"rubric": "rubric.md"}, loop={"iterations": 1})
    toy.run()
    (toy.folder / "rubric.md").write_text(rubric.replace("(\\d)", "([0-3])"))
    assert toy.to_do() == {"verdicts", "pairs", "train"} | waiting(toy)
    (toy.folder / "rubric.md").write_text(rubric.replace("Score?", "How good?"))
    assert "judgments" in first_missing(toy)
    assert "samples" not in first_missing(toy)


def waiting(toy):
    """Return the stages of steps that wait for a model that would be retrained."""
    return {step.stage for step, found in toy.look().steps.items() if found.waits_for}


@pytest.mark.slow
def test_a_function_judge_is_told_apart_by_its_source(toy):
    toy.write(judge={"function": "gold.py:grade"}, loop={"iterations": 1})
    toy.run()
    source = (toy.folder / "gold.py").read_text()
    (toy.folder / "gold.py").write_text(source + "# mended\n")
    assert "judgments" in first_missing(toy)
    assert "samples" not in first_missing(toy)


@pytest.mark.slow
def test_what_a_judge_reads_of_a_prompt_is_part_of_what_it_is_asked(toy):
    toy.write(judge={"function": "gold.py:grade"}, loop={"iterations": 1})
    toy.run()
    lines = [json.loads(line) for line in toy.prompts.read_text().splitlines()]
    lines[0]["reference"] = "another"
    toy.prompts.write_text("\n".join(map(json.dumps, lines)))
    found = toy.look().steps
    missing = {step.stage: at.missing for step, at in found.items() if step.role == "current"}
    assert missing == {"samples": 0, "judgments": 3, "verdicts": 3}


def test_other_template_kwargs_are_other_answers_and_the_old_ones_play_no_role(toy):
    toy.write(loop={"policy": "self_rewarding", "iterations": 1})
    toy.finish()
    old = {row["sample_id"] for row in toy.query("select sample_id from candidates")}
    lines = [json.loads(line) for line in toy.prompts.read_text().splitlines()]
    toy.prompts.write_text(
        "\n".join(json.dumps({**line, "template_kwargs": {"thinking": True}}) for line in lines)
    )
    toy.run()
    new = {row["sample_id"] for row in toy.query("select sample_id from candidates")}
    assert len(old) == len(new) == 36
    assert not old & new
    used = toy.query("select chosen_id, rejected_id from pairs where chosen_id is not null")
    assert {side for row in used for side in row.values()} <= new


@pytest.mark.slow
def test_meta_that_a_function_reads_makes_its_judgments_again(toy):
    (toy.folder / "gold.py").write_text(
        "def grade(rows):\n"
        "    return [row['meta'].get('points', 1) + i for i, row in enumerate(rows)]"
    )
    toy.write(
        judge={"function": "gold.py:grade"}, loop={"policy": "self_rewarding", "iterations": 1}
    )
    toy.run()
    lines = [json.loads(line) for line in toy.prompts.read_text().splitlines()]
    meta = {"points": 1000, "none": None}
    toy.prompts.write_text("\n".join(json.dumps({**line, "meta": meta}) for line in lines))
    toy.run()
    (row,) = toy.query("select min(score) as least, count(*) as n from candidates")
    assert row["least"] >= 1000
    assert json.loads(toy.query("select meta from prompts")[0]["meta"]) == meta


def test_a_pair_names_the_judge_that_scored_it(toy):
    toy.write(
        judge={"function": "gold.py:grade"}, loop={"policy": "self_rewarding", "iterations": 1}
    )
    toy.finish()
    (toy.folder / "gold.py").write_text((toy.folder / "gold.py").read_text() + "# a comment\n")
    toy.run()
    (said,) = toy.query("select distinct judge_model from pairs")
    (judged,) = toy.query("select distinct judge_model from judgments")
    assert said == judged


@pytest.mark.slow
def test_a_dry_run_is_no_answer_of_the_real_model(toy):
    (toy.folder / "script.py").write_text(SCRIPT)
    toy.finish()
    (toy.folder / "m0" / "config.json").write_text("{}")
    (toy.folder / "m0" / "model.safetensors").write_text("")
    (toy.folder / "m0" / "chat_template.jinja").write_text("")
    scripted = toy.look().models["M_0"].digest
    assert toy.look("engine.script='script.py:answer'").models["M_0"].digest != scripted
    from factory.models import folder_digest

    assert folder_digest(toy.folder / "m0", "float32", {}) != scripted


SERVED = {"engine.base_url", "engine.key", "engine.concurrency", "engine.timeout"}
SERVED |= {"engine.max_retries", "engine.native_n", "engine.price_prompt", "engine.price_generated"}
SERVED |= {"engine.max_cost"}


def digest_in(engine, **fields):
    recipe = {"name": "r", "model": "m", "prompts": {"files": ["p"]}}
    made = Recipe.model_validate({**recipe, "engine": {"name": engine, **fields}})
    return as_run("digest", made.engine)


@pytest.mark.parametrize("argument", VLLM_IDENTITY)
def test_arguments_of_vllm_that_change_what_is_sampled_are_part_of_the_model(argument):
    assert digest_in("vllm", **{argument: "a"}) != digest_in("vllm")
    assert digest_in("vllm", **{argument: "a"}) != digest_in("vllm", **{argument: "b"})


def test_arguments_of_vllm_that_say_how_it_is_run_are_not():
    how = {
        "replicas": 2,
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": 2,
        "gpu_memory_utilization": 0.5,
        "max_model_len": 128,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 512,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "block_size": 32,
        "max_lora_rank": 8,
    }
    assert digest_in("vllm", **how) == digest_in("vllm") == digest_in("transformers") == "digest"


@pytest.mark.vllm
def test_every_argument_that_bears_identity_is_one_that_vllm_has():
    pytest.importorskip("vllm.version", reason="vllm is not installed")
    from factory.engines.vllm import RESERVED, argument_names

    assert set(VLLM_IDENTITY) <= argument_names()
    assert set(RESERVED) <= argument_names()


def test_a_server_s_name_for_a_model_is_part_of_it_and_where_it_answers_is_not():
    url = "http://localhost/v1"
    one = digest_in("openai", base_url=url, model="one")
    assert one != "digest"
    assert one != digest_in("openai", base_url=url, model="two")
    how = {"base_url": "http://there/v1", "key": "KEY", "concurrency": 2, "timeout": 5.0}
    assert one == digest_in("openai", model="one", max_retries=0, native_n=False, **how)


def test_every_field_of_a_recipe_is_tested_on_one_side():
    others = {  # tested above by files, in test_resume by counting rows, or without an effect here
        "model.path",
        "model.revision",
        "prompts.files",
        "probe.files",
        "probe.function",
        "probe.draws",
        "probe.timeout",  # in test_function
        "judge.rubric",
        "judge.draws",
        "sampling.draws",
        "loop.iterations",
        "engine.name",
        "engine.device",
        "engine.batch_size",
        "engine.window",
        "engine.model",
        "model.adapter",
        "model.declared",  # in test_openai
        "pairs.score",
        *("train.command", "train.environment"),  # in test_adopt
        "train.sft",  # in test_sft
        *SERVED,
        # in test_fixed_judge and test_judges
        *(field for field in DECIDES if field.startswith(("judge.model.", "judge.engine."))),
        *(field for field in DECIDES if field.startswith("judge.reward_model.")),
        *("judge.by", "judge.declared", "judge.opponents", "judges"),
        *("pairs.chosen_if", "pairs.rejected_if", "pairs.agree"),
    }
    tested = set(CHANGES) | set(NOTHING) | others
    assert set(DECIDES) <= tested
    for field in set(CHANGES) & set(DECIDES):
        assert DECIDES[field], f"{field} makes something again and must be said to bear identity"
    for field in set(NOTHING) & set(DECIDES):
        assert DECIDES[field] == (), f"{field} makes nothing again"


def test_golden_keys(toy):
    """Changed keys orphan the rows in users' lakes. Change a key only together with the version of
    its stage, and mention it in the release notes."""
    survey = toy.look()
    keys = {step.stage: at.folder.key for step, at in survey.steps.items() if at.folder}
    toy.finish()
    found = toy.look().steps
    keys["train"] = next(at.folder.key for step, at in found.items() if step.stage == "train")
    assert keys == {
        "prompts": "0c5b0769452b967222c75437",
        "samples": "f761f7660889839255a7138d",
        "judgments": "f6a0ba569b4473b2ed2cf7b7",
        "verdicts": "a3c490ce6b7295abdcc5e678",
        "train": "09ffb0a3fef7d20ef733a522",
    }


@pytest.mark.parametrize("config", [{"min_p": 2}, {"repetition_penalty": 0}, {"top_k": -2}])
def test_a_generation_config_out_of_range_is_refused(config):
    recipe = Recipe.model_validate({"name": "r", "model": "m", "prompts": {"files": ["p"]}})
    (field,) = config
    with pytest.raises(RecipeError, match=rf"^sampling\.{field}: .* set sampling\.{field}"):
        resolved(recipe, {"sampling": config})
