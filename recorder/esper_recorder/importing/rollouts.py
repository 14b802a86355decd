"""Rollouts that are logged in one record with the update before them, as Stable-Baselines3 does."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace

from esper_recorder.dialects.key import Dialect
from esper_recorder.importing.account import Account, Named
from esper_recorder.importing.numbering import as_steps, describe_falls


@dataclass(slots=True)
class _Logged:
    """What one record says of a rollout; nothing is added once another record has begun."""

    step: int | None
    values: dict[str, float] = field(default_factory=dict)
    is_complete: bool = False


class Rollouts:
    """Finds the rollout that an update learned from.

    A record has the numbers of an update, and those of the rollout after it. If every rollout is logged, the first
    record has no update, and the rollout of an update is that of the record before. If only each n-th rollout is
    logged, no record has the rollout of an update: its row then gets the rollout after it, and its environment steps
    follow from how many rollouts lie between two records.
    """

    def __init__(self, dialect: Dialect, account: Account) -> None:
        self._account = account
        self._count_key = dialect.rollouts_key
        self._step_key = dialect.step_key
        self._logged: list[_Logged] = []
        self._is_each_logged: bool | None = None
        self._before: _Logged | None = None  # the rollout of the update before
        self._epochs: float | None = None
        self._updates = 0
        self._offset = 0  # steps of the calls of learn() before
        self._continued, self._falls = Named(), Named()  # the step before it begins anew

    def copy(self) -> Rollouts:
        """Return the rollouts so far, to go on from here by itself; it notes nothing."""
        made = copy(self)
        made._logged = [replace(logged, values=dict(logged.values)) for logged in self._logged]
        made._continued, made._falls = Named(), Named()
        return made

    def has(self, key: str, step: int | None) -> bool:
        """Whether the record that is being read, which has this step, has this key already."""
        last = self._logged[-1] if self._logged else None
        return last is not None and not last.is_complete and last.step == step and key in last.values

    def add(self, key: str, step: int | None, value: float) -> None:
        """Take what a record says of its rollout."""
        if not self._logged or self._logged[-1].is_complete or self._logged[-1].step != step or self.has(key, step):
            self._logged.append(_Logged(step))
        self._logged[-1].values[key] = value

    def of_update(self, step: int | None, epochs: float | None) -> tuple[dict[str, float], int | None]:
        """Return what the rollout of an update measured, by key, and the environment steps after it if they are known.

        Args:
            step: Of the record that has the update.
            epochs: Epochs so far, if they are logged.
        """
        self._updates += 1
        own = self._logged.pop() if self._logged and self._logged[-1].step == step else None
        if own is not None and own.is_complete:  # of an earlier record with the same step
            self._logged.append(own)
            own = None
        if self._is_each_logged is None:
            self._is_each_logged = bool(self._logged)
        before, self._logged = self._logged[-1] if self._logged else None, []
        if not self._is_each_logged:
            steps = self._steps_of_gap(own)
            return ({} if own is None else own.values), steps
        if own is not None:
            own.is_complete = True
            self._logged = [own]
        if before is None:
            return {}, None
        return before.values, self._steps_of(before, epochs)

    def _steps_of(self, rollout: _Logged, epochs: float | None) -> int | None:
        """The environment steps after a rollout, over all calls of `learn`."""
        before, epochs_before = self._before, self._epochs
        self._before, self._epochs = rollout, epochs
        if rollout.step is None or rollout.step < 0:
            return None
        if before is not None and before.step is not None and rollout.step <= before.step:
            is_first = rollout.values.get(self._count_key) == 1
            if is_first and epochs is not None and epochs_before is not None and epochs > epochs_before:
                self._offset += before.step
                self._continued.add(f"{before.step:,}")
            else:
                self._falls.add(f"{before.step:,}")
        return self._offset + rollout.step

    def _steps_of_gap(self, own: _Logged | None) -> int | None:
        """The environment steps before a rollout, from how many rollouts lie between it and the logged one before."""
        before, self._before = self._before, own
        if own is None or before is None or own.step is None or before.step is None or before.step < 0:
            return None
        rollouts = own.values.get(self._count_key, 0.0) - before.values.get(self._count_key, 0.0)
        return None if rollouts <= 0.0 else as_steps(own.step - (own.step - before.step) / rollouts)

    def note(self) -> None:
        """Say in the account where the steps begin anew, and what the log cannot tell."""
        if self._continued.count:
            self._account.notes.append(
                f"{self._step_key} begins anew after {self._continued}, the count of epochs does not: learn() was"
                " called again, and env_steps counts on"
            )
        if self._falls.count:
            where, seems = describe_falls(self._falls, self._updates, "after ")
            seems = f": {seems}" if seems else ""
            self._account.notes.append(f"the step begins anew {where}, and env_steps with it{seems}")
        if self._is_each_logged is False and self._updates == 1:
            self._account.notes.append(
                "the log has one update only: its row has the rollout after it, and no env_steps"
            )
        elif self._is_each_logged is False:
            self._account.notes.append(
                "only each n-th rollout is logged: a row has the rollout after its update, and its env_steps are known"
                f" only from {self._count_key} of two records"
            )
        elif self._logged:
            step = self._logged[-1].step
            at = "" if step is None or step < 0 else f" at step {step:,}"
            self._account.notes.append(f"the rollout{at} has no update: the trainer never logs the last one")
