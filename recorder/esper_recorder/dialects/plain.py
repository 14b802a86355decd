"""Logs of trainers that nobody knows: keys in the words of the metrics table, and what other keys seem to be."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from esper_recorder.dialects.key import Dialect, Key
from esper_schemas.metric.payload import METRICS
from esper_schemas.run.records import ValueLossDefinition

NAME = "unknown trainer"

_LOSSES = ("value_loss", "policy_loss")

_NOT_READ = frozenset({"update", "wall_time", "skipped", "skip_reason", "episodes"})
"""Metrics that say too little without their definition: the import counts and times updates itself."""

_NUMBER = f"{NAME.replace(' ', '_')}_update"

_SEPARATORS = re.compile(r"[\s_-]+")
"""What may stand between the words of a name, as in `Value Loss`."""

_MEAN = re.compile(r"[(\[](?:mean|avg|average|nats)[)\]]$")
"""What may stand behind a name, and says what the metrics table says."""

_AS_NAMED = "named so by the log; nothing says that it is the same number"

UNKNOWN = Dialect(
    name=NAME,
    seen="",
    keys=(),
    signature=(),
    value_loss=ValueLossDefinition(source="as logged", assumed=True),
    steps="other",
    number="step",
)
"""What is known of a log of an unknown trainer: nothing but what a person says of its keys."""


def metric_of(name: str) -> str:
    """Return the metric that a key is named after; an empty text if it is named after none.

    A key is such a name, or ends with it behind a slash or a dot, as `losses/value_loss` and `Losses/Value Loss` do. A
    unit may follow, as in `Value Loss (mean)`.
    """
    column = _SEPARATORS.sub("_", _MEAN.sub("", re.split(r"[/.]", name)[-1].strip().lower()).strip())
    return column if column in METRICS and column not in _NOT_READ else ""


def named_keys(names: Collection[str]) -> tuple[Key, ...]:
    """Return the keys that are named after a metric; if two of them are named after the same one, neither."""
    metrics = {name: metric_of(name) for name in names}
    counts = Counter(metrics.values())
    return tuple(Key(name, column, _AS_NAMED) for name, column in metrics.items() if column and counts[column] == 1)


def plain_dialect(names: Collection[str]) -> Dialect | None:
    """Return a dialect for a log that names both losses as the metrics table does; None if it does not.

    It knows the losses only. Any other key that is named after a metric is met when it has its first number, which may
    be late.
    """
    keys = tuple(key for key in named_keys(names) if key.column in _LOSSES)
    if len(keys) < len(_LOSSES):
        return None
    numbers = [name for name in names if name.strip().lower() == "update"]
    keys += tuple(Key(name, _NUMBER, "the trainer's number", kind="number") for name in numbers[:1])
    return replace(UNKNOWN, keys=keys, reads_names=True)


def is_metric(name: str) -> bool:
    """Whether a key is named as a metric that a log can have, or seems to be a loss by its words."""
    return bool(metric_of(name)) or is_loss(name)


_SUBJECTS = {
    "value_loss": frozenset({"v", "vf", "value", "critic", "baseline"}),
    "policy_loss": frozenset({"pi", "pg", "policy", "actor", "surrogate", "objective", "clip"}),
}
"""Words that say, beside the word loss, which loss it is."""

_LOSS_WORDS = frozenset({"loss", "losses"})
_NO_LOSS = frozenset({"delta", "coef", "coeff", "unclipped", "grad", "norm", "min", "max", "std", "target", "q"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def describe_losses(names: Collection[str]) -> tuple[str, str]:
    """Say of keys without both losses which they are, likely ones first; and the options that would name the losses."""
    likely = likely_losses(names)
    first = [key for found in likely.values() for key in found[:2]]
    shown = list(dict.fromkeys([*first, *sorted(names)]))
    listed = ", ".join(key[:100] for key in shown[:5]) + (", …" if len(shown) > 5 else "")
    named = {column: found[0] if len(found) == 1 else "KEY" for column, found in likely.items()}
    options = " ".join(f"--map {shlex.quote(f'{key}={column}')}" for column, key in named.items())
    return f"{'and not both' if first else 'and neither'} ({listed})", options


def is_loss(name: str) -> bool:
    """Whether a key seems to be a loss by its words: `Value Loss` and `v_loss`, and not `value_loss_coef`."""
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(words & _LOSS_WORDS) and not words & _NO_LOSS


_RETURN_WORDS = frozenset({"return", "returns", "reward", "rewards", "rew", "score", "episodic"})
_NO_RETURN = frozenset({"std", "min", "max", "var", "norm", "scale", "coef", "loss", "eval", "test", "target"})
_OF_EPISODES = frozenset({"episode", "episodes", "episodic", "ep"})


def likely_return(names: Collection[str]) -> str | None:
    """Return the key that most seems to be the return of the episodes by its words, for a person to choose."""
    words = {name: {word.lower() for word in _WORD.findall(name)} for name in names}
    found = [name for name in sorted(names) if words[name] & _RETURN_WORDS and not words[name] & _NO_RETURN]
    return min(found, key=lambda name: (not words[name] & _OF_EPISODES, "mean" not in words[name]), default=None)


def likely_losses(names: Collection[str]) -> dict[str, list[str]]:
    """Return the keys that may be the value loss and the policy loss by their words, for a person to choose from."""
    likely: dict[str, list[str]] = {column: [] for column in _LOSSES}
    for name in sorted(names):
        if is_loss(name):
            words = {word.lower() for word in _WORD.findall(name)}
            of = [column for column, subjects in _SUBJECTS.items() if words & subjects]
            if len(of) == 1:
                likely[of[0]].append(name)
    return likely
