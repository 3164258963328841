"""Pairs: a policy's choice among scored candidates. SQL does the work; this says what it hangs
on.
"""

from typing import Any

VERSION = 1

FIRST, SECOND = "D1", "D2"
"""Phases: D1 trains the future model; D2 trains the next model and is what is published."""

POLICIES: dict[str, tuple[str, ...]] = {
    "temporal": ("past", "current", "future"),
    "self_rewarding": ("current",),
}
"""The roles that each policy chooses from; with a future role there are two phases, and D1 is the
same query before there are future candidates."""


def phases(policy: str) -> tuple[str, ...]:
    return (FIRST, SECOND) if "future" in POLICIES[policy] else (SECOND,)


def roles(policy: str, phase: str) -> tuple[str, ...]:
    """The roles whose samples are candidates in a phase."""
    return tuple(role for role in POLICIES[policy] if (role, phase) != ("future", FIRST))


def settings(
    iteration: int, phase: str, policy_sql: str, pairs_sql: str, judge: str, rows_read: str
) -> dict[str, Any]:
    return {
        "iteration": iteration,
        "phase": phase,
        "policy": policy_sql,
        "outcomes": pairs_sql,
        "judge": judge,
        "rows": rows_read,
    }
