"""Pair policies, and the queries that score, filter, and sort the candidate answers."""

from factory.pairs.choice import (
    PAIRS_VERSION,
    PLAIN_SCORES,
    Choice,
    check_policy,
    define_policy,
    make_choice,
    named_columns,
)
from factory.pairs.policy import FIRST, SECOND, Policy, load_policy, shipped_policies

__all__ = [
    "FIRST",
    "PAIRS_VERSION",
    "PLAIN_SCORES",
    "SECOND",
    "Choice",
    "Policy",
    "check_policy",
    "define_policy",
    "load_policy",
    "make_choice",
    "named_columns",
    "shipped_policies",
]
