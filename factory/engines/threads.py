"""Let processes that compute on the same CPU cores share them."""

import os


def share_cores() -> None:
    """Let idle OpenMP threads of this process and its later children sleep.

    By default, the threads of torch on a CPU spin while they wait for one another. If other
    processes use the cores, a spinning thread delays the very thread that it waits for, and two
    runs on one machine slow each other down several times. Sleeping costs a process that is alone
    on the machine up to a fifth of its speed (`tests/benchmarks/figures.md`). The call has no
    effect after torch is loaded. The user's OMP_WAIT_POLICY has precedence.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
