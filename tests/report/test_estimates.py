"""Estimates of a step after a tenth of it, in a lake whose time is simulated."""

import json
import time
from types import SimpleNamespace

import pytest

from factory.engines import scripted
from factory.lake import Lake
from factory.plan import Step, folder_of
from factory.progress import Silent
from factory.report import estimates, plan_rows, plan_totals, usage_of_step
from factory.run import generate, preview_recipe
from factory.train import process

SCRIPT = """\
def answer(messages, seed):
    random = (seed * 2654435761) % 2**32 // 64
    if "Say number" == messages[-1]["content"][:10]:
        return "word " * (30 + random % 41)
    if {constrained}:
        return str(1 + random % 5)
    return "because " * (10 + random % 21) + f"\\nScore: {{random % 6}}"
"""


class Ended(BaseException):
    """An interruption, as by Ctrl-C."""


@pytest.fixture
def clock(monkeypatch):
    """A clock that the scripted engine moves: 2 ms per prompt token and 50 ms per token.

    `clock.most` is the number of results after which a run is interrupted.
    """
    clock = SimpleNamespace(now=0.0, most=None, done=0)
    real = scripted._Engine._answer

    def answer(self, request, draw):
        for result in real(self, request, draw):
            clock.now += 0.002 * result.n_prompt_tokens + 0.05 * result.n_tokens
            clock.done += 1
            if clock.most is not None and clock.done > clock.most:
                raise Ended
            yield result

    monkeypatch.setattr(scripted._Engine, "_answer", answer)
    ours = SimpleNamespace(monotonic=lambda: clock.now, time=time.time)
    monkeypatch.setattr(generate, "time", ours)
    return clock


@pytest.fixture
def simulated(toy, request):
    """A recipe with one iteration, 25 prompts, and 4 answers per prompt and role."""
    is_constrained = getattr(request, "param", "free") == "constrained"
    toy.write_prompts(25)
    toy.script(SCRIPT.format(constrained=is_constrained))
    judge = {"constrained": True, "rubric": "rating"} if is_constrained else {"rubric": "additive"}
    toy.write(
        sampling={"draws": 4, "max_tokens": 500},
        judge={"draws": 2, "max_tokens": 1000, **judge},
        loop={"iterations": 1},
        stop_if={"unparsed": 1, "equal_scores": False},
    )
    return toy


def interrupt(toy, clock, results):
    clock.most, clock.done = results, 0
    with pytest.raises(Ended):
        toy.run()
    clock.most = None


def assert_close(toy, about, before):
    """Assert that the estimates of some steps are within 20 % of what a complete run measures."""
    survey = toy.run()
    for step, estimate in about.items():
        after = usage_of_step(survey.steps[step])
        rest = before.get(step)
        tokens = after.tokens - (rest.tokens if rest else 0)
        seconds = after.seconds - (rest.seconds if rest else 0)
        assert estimate.tokens == pytest.approx(tokens, rel=0.2), step.label
        assert estimate.seconds == pytest.approx(seconds, rel=0.2), step.label
        assert not estimate.at_most


PAST, CURRENT = (Step("samples", 0, role, "M_0") for role in ("past", "current"))


def judgments(role, name="M_0"):
    return Step("judgments", 0, role, name, judge="M_0", judge_name="judge")


def look(toy, *steps):
    state = toy.look()
    found = estimates(state)
    return {step: found[step] for step in steps}, {
        step: usage_of_step(state.steps[step]) for step in steps
    }


def test_sampling_after_a_tenth_of_it(simulated, clock):
    interrupt(simulated, clock, 20)  # of 200 for both roles
    future = Step("samples", 0, "future", "F_0")
    about, before = look(simulated, CURRENT, PAST, future)
    assert about[future].measured == CURRENT.label
    assert_close(simulated, about, before)


@pytest.mark.parametrize("simulated", ["free", "constrained"], indirect=True)
def test_judging_after_a_tenth_of_it(simulated, clock):
    interrupt(simulated, clock, 200 + 40)  # all samples, and a tenth of both roles' judgments
    first = judgments("current")
    about, before = look(simulated, first, judgments("past"), judgments("future", "F_0"))
    assert about[first].measured == first.label
    assert before[first].answered == 20
    assert_close(simulated, about, before)


@pytest.mark.parametrize(
    "simulated", ["free", pytest.param("constrained", marks=pytest.mark.slow)], indirect=True
)
def test_a_plan_after_a_preview_estimates_everything_but_the_training(simulated, clock):
    toy = simulated
    before = plan_totals(toy.look(), plan_rows(toy.look()))
    assert (before["seconds"], before["without_estimate"]["samples"]) == (None, 3)
    preview_recipe(toy.recipe(), Lake(toy.lake), Silent(), 6)
    state = toy.look()
    totals = plan_totals(state, plan_rows(state))
    assert totals["without_estimate"] == {"train": 2}
    steps = [step for step, each in estimates(state).items() if each.measured]
    assert {step.stage for step in steps} == {"samples", "judgments"}
    about, used = look(toy, *steps)
    assert_close(toy, about, used)


@pytest.mark.slow
def test_the_latest_tenth_counts_more_than_an_earlier_slow_hour(simulated, clock):
    interrupt(simulated, clock, 12)
    (folder,) = (found for found in Lake(simulated.lake).folders("samples"))
    slow = [event for event in folder.events() if "seconds" in event][-1]
    folder.record({**slow, "seconds": 100 * slow["seconds"]})
    interrupt(simulated, clock, 24)
    about, before = look(simulated, CURRENT)
    assert_close(simulated, about, before)


def test_a_running_step_is_estimated_from_the_work_that_it_recorded(simulated, clock):
    simulated.write(shards={"seconds": 5.0})
    interrupt(simulated, clock, 60)
    (folder,) = Lake(simulated.lake).folders("samples")
    events = [event for event in folder.events() if "step" in event]
    assert len(events) > 10
    about, before = look(simulated, CURRENT, PAST)
    assert sum(event["answered"] for event in events) == 60
    assert sum(work.answered for work in before.values()) == 60
    assert_close(simulated, about, before)


def test_the_start_of_engines_in_their_own_processes_is_no_part_of_the_time(simulated, clock):
    class Fleet:
        name, version, started = "scripted", "1", None

    def answers(self, requests):
        clock.now += 1000
        self.started = clock.now
        with scripted.open_engine(simulated.recipe().engine, simulated.folder) as engine:
            yield from engine.generate(requests)

    Fleet.generate = answers
    from factory.run import loop

    state = loop.RecipeState.of(loop.open_recipe(simulated.recipe(), Lake(simulated.lake)))
    for step in loop.steps(simulated.recipe())[:2]:
        located = loop.locate_step(state, step)
        counted = loop.count_step(state, located)
        if step.stage == "prompts":
            loop.make_prompts(state, counted, Silent())
            loop.count_step(state, located)
        else:
            generate.generate(state, [counted], Fleet(), Silent())
    assert usage_of_step(state.steps[CURRENT]).seconds < 1000


def test_work_on_another_engine_tells_tokens_and_no_time(simulated, clock):
    interrupt(simulated, clock, 20)
    (folder,) = Lake(simulated.lake).folders("samples")
    file = folder.path / "manifest.jsonl"
    file.write_text(file.read_text().replace('"scripted"', '"vllm"'))
    about, _ = look(simulated, CURRENT)
    assert about[CURRENT].seconds is None
    assert about[CURRENT].tokens > 0
    assert not about[CURRENT].at_most


@pytest.mark.slow
def test_a_judge_is_never_estimated_from_another_judge(simulated, clock):
    simulated.write(judges={"honest": {"draws": 2, "max_tokens": 700}})
    simulated.run()
    simulated.write(judges={"honest": {"draws": 2, "max_tokens": 700, "rubric": "rating"}})
    state = simulated.look()
    honest = Step("judgments", 0, "current", "M_0", judge="M_0", judge_name="honest")
    estimate = estimates(state)[honest]
    assert (estimate.at_most, estimate.seconds, estimate.measured) == (True, None, None)


# trainings


def train_steps(pace, moment, steps, of, first=1):
    """Let a trainer finish steps of 2 s, which differ by up to 25 %."""
    for step in range(first, steps + 1):
        pace.at(step, of)
        moment["now"] += 2.0 + 0.5 * ((step * 7) % 11 - 5) / 5


def test_a_training_after_a_tenth_of_it(toy, monkeypatch):
    toy.finish()
    moment = {"now": 0.0}
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: moment["now"]))
    state = toy.look()
    (step, *_) = (step for step in state.steps if step.stage == "train")
    folder = folder_of(state.steps[step])
    (folder.path / "manifest.json").unlink()
    pace = process.Pace()
    train_steps(pace, moment, 20, 200)
    folder.record({"step": step.label, "seconds": 60.0, **pace.event()})
    (folder.path / "checkpoints" / "checkpoint-20").mkdir(parents=True)

    estimate = estimates(toy.look())[step]
    assert estimate.measured == step.label
    begun = moment["now"]
    train_steps(pace, moment, 200, 200, first=21)
    assert estimate.seconds == pytest.approx(moment["now"] - begun, rel=0.2)

    (folder.path / "checkpoints" / "checkpoint-20").rmdir()
    assert estimates(toy.look())[step].seconds == pytest.approx(moment["now"], rel=0.2)


def test_a_training_is_estimated_from_the_tokens_of_an_earlier_one(toy):
    toy.finish()
    state = toy.look()
    trainings = [step for step in state.steps if step.stage == "train"]
    folders = {step: folder_of(state.steps[step]) for step in trainings}
    first, second = trainings[0], trainings[1]
    read = {step: tokens_of(toy, step) for step in (first, second)}

    manifest = json.loads((folders[first].path / "manifest.json").read_text())
    manifest["seconds"] = 300.0
    (folders[first].path / "manifest.json").write_text(json.dumps(manifest))
    (folders[second].path / "manifest.json").unlink()
    about = estimates(toy.look())
    assert about[second].measured == first.label
    expected = 300.0 * read[second] / read[first]
    assert about[second].seconds == pytest.approx(expected)
    # Its optimizer steps took 250 s. The rest of the time does not depend on the pairs.
    measured = {"seconds": 300.0, "trained": 49, "of": 50, "training_seconds": 245.0}
    folders[first].record({"step": first.label, **measured})
    expected = 50.0 + 250.0 * read[second] / read[first]
    assert estimates(toy.look())[second].seconds == pytest.approx(expected)
    # The pairs of the next iteration are not chosen yet: its prompts count.
    later = trainings[2]
    ratio = state.n_prompts[1][1] / state.n_prompts[0][1]
    assert estimates(toy.look())[later].seconds == pytest.approx(50.0 + 250.0 * ratio)


def tokens_of(toy, step):
    query = (
        "select sum(2 * prompt_tokens + chosen_tokens + rejected_tokens)::int as n from pairs "
        f"where outcome = 'kept' and split = 'train' and iteration = {step.iteration} "
        f"and phase = '{step.phase}'"
    )
    return toy.query(query)[0]["n"]


def test_without_a_training_there_is_no_estimate_of_one(toy, factory):
    factory("preview", toy.path, "--lake", toy.lake)
    shown = factory("plan", toy.path, "--lake", toy.lake).out
    assert "without 4 training steps that cannot be estimated yet" in shown
    toy.write(train={"with": "manual"})
    totals = factory("plan", toy.path, "--lake", toy.lake, "--json").json()["totals"]
    assert totals["without_estimate"] == {}


def test_a_first_plan_says_how_to_get_an_estimate(toy, factory):
    shown = factory("plan", toy.path, "--lake", toy.lake).out
    assert "no time estimate yet (run `factory preview` to get one)" in shown
