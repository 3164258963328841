"""Options of the campaign, its items, and the table of its outcomes."""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from campaign.forks import Forks
from campaign.runner import check_input, remove

CI_INPUTS = 300
CI_SEED = 0


def pytest_addoption(parser):
    group = parser.getgroup("campaign", "bad inputs (pytest tests/campaign)")
    group.addoption("--inputs", type=int, help="number of inputs of all kinds together")
    group.addoption("--seed", type=int, dest="campaign_seed", help="seed of the inputs")
    group.addoption("--input", help="a single input, such as fields-17, or a kind, such as fields")
    group.addoption("--outcomes", type=Path, help="JSONL file to which each outcome is added")


def pytest_configure(config):
    by_hand = config.getoption("inputs", None) or config.getoption("input", None)
    if by_hand and config.option.campaign_seed is None:
        config.option.campaign_seed = random.randrange(1_000_000)


def pytest_generate_tests(metafunc):
    if "campaign_input" not in metafunc.fixturenames:
        return
    config, kinds = metafunc.config, metafunc.module.KINDS
    inputs = config.getoption("inputs", None)
    only, _, number = (config.getoption("input", None) or "").partition("-")
    by_hand = bool(inputs or only)
    named = []
    for kind, definition in kinds.items():
        count = max(1, round(definition.inputs * (inputs or CI_INPUTS) / CI_INPUTS))
        if only and only != kind:
            continue
        if only and inputs:
            count = inputs
        named += [(kind, int(number))] if number else [(kind, each) for each in range(count)]
    marks = () if by_hand else pytest.mark.slow
    metafunc.parametrize(
        "campaign_input",
        [pytest.param(each, id=f"{each[0]}-{each[1]}", marks=marks) for each in named],
    )


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the campaign forks processes, which needs Linux")
    opened = Forks(tmp_path_factory.mktemp("forks"))
    yield opened
    opened.close()


@pytest.fixture
def verdict(request, campaign_input, forks, tmp_path):
    """The outcome of the test's input."""
    kind, number = campaign_input
    seed = request.config.getoption("campaign_seed", None)
    seed = CI_SEED if seed is None else seed
    base = tmp_path / "input"
    found = check_input(kind, request.module.KINDS[kind], number, seed, forks, base)
    row = {"kind": kind, "number": number, "seed": seed, "outcome": found.outcome, "cpu": found.cpu}
    request.node.user_properties.append(("campaign", row))
    if path := request.config.getoption("outcomes", None):
        with path.open("a") as file:
            file.write(json.dumps({**row, "detail": str(found)}) + "\n")
    yield found
    if found.is_right:
        remove(base)


def pytest_terminal_summary(terminalreporter, config):
    found = [
        dict(report.user_properties)["campaign"]
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call" and "campaign" in dict(report.user_properties)
    ]
    if not found:
        return
    cpu = sum(row["cpu"] for row in found)
    title = f"campaign: {len(found)} inputs, seed {found[0]['seed']}, {cpu:.0f} s of CPU"
    terminalreporter.section(title)
    counts = Counter((row["kind"], row["outcome"]) for row in found)
    counts.update(("all", row["outcome"]) for row in found)
    outcomes = sorted({outcome for _, outcome in counts})
    kinds = [*sorted({row["kind"] for row in found}), "all"]
    rows = [["", *outcomes]]
    rows += [[kind, *(str(counts[kind, outcome] or "") for outcome in outcomes)] for kind in kinds]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        terminalreporter.write_line("  ".join(cells))
