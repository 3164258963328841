"""Let several processes share the CPU cores of a machine."""

import os


def share_cores() -> None:
    """Let idle OpenMP threads of this process and its later children sleep.

    By default, the threads of torch on a CPU spin while they wait for one another. If other
    processes use the cores, a spinning thread delays the very thread that it waits for, and two
    runs on one machine become several times slower. On an otherwise idle machine, sleeping threads
    cost up to a fifth of the speed (`tests/benchmarks/figures.md`). The call has no effect after
    torch is loaded. The user's OMP_WAIT_POLICY takes precedence.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
