"""Pair policies and how candidates are scored, filtered, and ordered."""

from factory.pairs.choice import (
    PAIRS_VERSION,
    PLAIN_SCORES,
    build_settings,
    check_policy,
    choice_views,
    combined,
    combines,
    define_policy,
    evaluated,
    judges_used,
)
from factory.pairs.policy import FIRST, SECOND, Policy, load_policy, shipped_policies

__all__ = [
    "FIRST",
    "PAIRS_VERSION",
    "PLAIN_SCORES",
    "SECOND",
    "Policy",
    "build_settings",
    "check_policy",
    "choice_views",
    "combined",
    "combines",
    "define_policy",
    "evaluated",
    "judges_used",
    "load_policy",
    "shipped_policies",
]
