"""Runs that share a machine's cores: idle OpenMP threads sleep instead of spinning."""

import subprocess
import sys

import pytest

OPEN = """
import os, sys
from pathlib import Path
from factory.engines import open_engine
from factory.recipe import TransformersEngine
assert "torch" not in sys.modules
try:
    open_engine(TransformersEngine(name="transformers"), [], 0, Path(), Path()).__enter__()
except ValueError:
    pass  # there is no model to load
assert "torch" in sys.modules
print(os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "used"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")]
)
def test_the_wait_policy_is_set_before_torch_is_loaded(given, used, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == used
