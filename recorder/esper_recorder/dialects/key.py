"""One key of another trainer's log, and the dialect that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from esper_schemas.run.records import ValueLossDefinition

Kind = Literal["update", "rollout", "episode", "step", "number", "again"]
"""What a key says.

`update`: what the update measured, once for each update. `rollout`: what the rollout before the update measured.
`episode`: one point for each episode that ended; an update has their mean, and their count in `episodes`. `step`: the
step of a record that has no other. `number`: the trainer's own number of the update. `again`: a number that another key
has too, with another step.
"""

Steps = Literal["env_steps", "number", "other"]
"""What the step of a point is: environment steps so far, the trainer's number of the update, or something else."""

MODULE = "{module}"
"""In the name of a key: the name of one of several policies, such as `default_policy`."""

ANY = "{any}"
"""At the end of the name of a key for each episode: any name, such as that of one of several environments."""

Define = Callable[[ValueLossDefinition, Mapping[str, Any], Mapping[str, float]], ValueLossDefinition]
"""Makes a definition more exact, from the hyper-parameters of a log and the values of its first update by key."""


class Key(NamedTuple):
    """One key of a log: the column that it becomes, and how the two differ.

    Attributes:
        name: As the trainer writes it; `{module}` stands for the name of a policy. `{any}` at its end stands for any
            name: the points of all such keys are those of one.
        column: A metric of the table, or an extra.
        remark: How the trainer's number differs from the column, or why it is only an extra.
        factor: What the number is multiplied by to become the column.
        kind: What the key says.
        zero_is_null: Whether the trainer writes exactly 0.0 for "not measured".
    """

    name: str
    column: str
    remark: str = ""
    factor: float = 1.0
    kind: Kind = "update"
    zero_is_null: bool = False

    def fits(self, name: str) -> bool:
        """Whether a key of a log with this name is meant."""
        return name == self.name or (self.name.endswith(ANY) and name.startswith(self.name.removesuffix(ANY)))


class Lossless(NamedTuple):
    """Keys by which a log without usable losses is known, and why it has none."""

    trainer: str
    signature: tuple[str, ...]
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How one trainer writes its log.

    Attributes:
        name: Name of the trainer.
        seen: The version that was run, or whose source was read.
        keys: What is known of its keys. Any other number becomes an extra.
        signature: Keys that only this trainer writes together; a log of it has all of them.
        value_loss: What its value loss is, as far as its logs tell; `factor` is that of the key.
        steps: What the step of a point is.
        number: The extra that keeps the trainer's number of an update, or a step that cannot be `env_steps`.
        step_key: The key that has the step, in records that have no step of their own.
        lags: Whether the numbers of an update are written with those of the *next* rollout, so that each record has
            the numbers of two updates. `rollouts_key` and `epochs_key` then name two counts: rollouts, which begin at 1
            whenever a training is continued, and epochs, which do not.
        of_rollout: How the names of keys begin that the rollout measured, besides those of kind `rollout`.
        define: Makes the definition of one log more exact.
        unclear: What the value loss depends on and no log tells. The definition is then an assumption.
        reads_names: Whether any other key that is named after a metric becomes that metric.
    """

    name: str
    seen: str
    keys: tuple[Key, ...]
    signature: tuple[str, ...]
    value_loss: ValueLossDefinition
    steps: Steps
    number: str = ""
    step_key: str = ""
    lags: bool = False
    rollouts_key: str = ""
    epochs_key: str = ""
    of_rollout: tuple[str, ...] = ()
    define: Define | None = None
    unclear: str = ""
    reads_names: bool = False

    @property
    def marker(self) -> Key:
        """The key that comes once for each update: the value loss."""
        return next(key for key in self.keys if key.column == "value_loss")

    def within(self, names: Collection[str], asked: Collection[str] = ()) -> Dialect | None:
        """Return the dialect if a log with these keys is written in it, with the name of a policy filled in.

        Of several policies, that of the keys which are `asked` for is read; or else `default_policy`, or the first by
        name.
        """
        found: Dialect | None = self
        if several := [name for name in self.signature if MODULE in name]:
            before, after = several[0].split(MODULE)
            pattern = re.compile(f"{re.escape(before)}([^/]+){re.escape(after)}")
            modules = sorted({match[1] for name in names if (match := pattern.fullmatch(name))})
            own = [key.name for key in self.keys if MODULE in key.name]
            wanted = [one for one in modules if any(name.replace(MODULE, one) in asked for name in own)]
            module = next(iter([*wanted, *(one for one in modules if one == "default_policy"), *modules]), None)
            found = None if module is None else self._of(module)
        return found if found is not None and all(name in names for name in found.signature) else None

    def _of(self, module: str) -> Dialect:
        keys = tuple(key._replace(name=key.name.replace(MODULE, module)) for key in self.keys)
        return replace(self, keys=keys, signature=tuple(name.replace(MODULE, module) for name in self.signature))
