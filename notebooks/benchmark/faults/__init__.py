"""The ways of breaking a run: each kind says what it does, to which trainers, and when it begins.

A kind is a class. What it does not define is as in a sound run, and `Fault` itself breaks nothing. `KINDS` has them
all by name; those whose names begin with `rlm-` are the operators of RLMutation.
"""

from __future__ import annotations

from benchmark.faults import critic, data, policy, rlmutation
from benchmark.faults.fault import TRAINERS, Fault

__all__ = ["KINDS", "STRENGTHS", "TRAINERS", "Fault"]

STRENGTHS = {"rlm-r": (0.5, 1.0), "rlm-ra": (0.2, 0.5, 1.0), "rlm-m": (0.2, 0.5, 1.0)}
"""Probabilities of the operators that have one."""


_ALL = [
    kind
    for module in (critic, policy, data, rlmutation)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Fault) and kind is not Fault
]

KINDS = {kind.name: kind for kind in sorted(_ALL, key=lambda kind: (kind.area, kind.name))}
"""Every kind by name, ordered by area."""
