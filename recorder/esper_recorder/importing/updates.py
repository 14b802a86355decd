"""Groups the scalar points of a log into updates, one row each, and accounts for every point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from esper_recorder.dialects.key import Dialect
from esper_recorder.dialects.plain import NAME
from esper_recorder.importing.account import Account, Mapped, Named
from esper_recorder.importing.advice import note_left_out, note_likely_return, why_no_update
from esper_recorder.importing.empty_losses import EmptyLosses
from esper_recorder.importing.numbering import Numbering, as_steps, describe_falls
from esper_recorder.importing.points import Points
from esper_recorder.importing.rollouts import Rollouts
from esper_recorder.importing.rows import Row
from esper_recorder.importing.tally import Tally
from esper_recorder.importing.targets import STEP, Targets
from esper_recorder.importing.update_rows import UpdateRows
from esper_recorder.importing.values import in_seconds
from esper_recorder.importing.waiting import Waiting
from esper_schemas.errors import UsageError
from esper_schemas.metric.coercion import LIKELY_SECONDS
from esper_schemas.run.records import ValueLossDefinition

MAX_POINTS_BEFORE_UPDATE = 300_000
"""A log with so many points and no value loss among them is no log of a PPO."""

_MAX_TIME = 253_402_300_799.0  # the end of the year 9999


class Updates:
    """Turns the points of one log into rows; feed it all points in order, then call `finish`.

    Points may come many at a time or one by one, as they are logged. Of a log that is still being written, `pending` is
    the row of the update that has been read last, as far as it is known.

    An update is everything since the one before, up to the value loss and whatever else is logged with the same step.
    It ends with a point that has another step, or a key that came with this step already: so a step that comes again is
    a further update, and replaces nothing. Several points of a key in one update become their mean and their count if
    they are episodes or their key is unknown; otherwise the last one counts.

    Args:
        account: Takes down what became of every point.
        config: Hyper-parameters of the log, which may still grow until the first update.
        mapping: Key -> column, as a person gave it; it comes before what is known of the trainer.
        given: Parts of the value-loss definition, as a person gave them.

    Attributes:
        dialect: The dialect of the log; None until it is known.
        definition: What the value loss is; complete once there is a row.
    """

    def __init__(
        self,
        account: Account,
        config: Mapping[str, Any],
        mapping: Mapping[str, str],
        given: Mapping[str, Any],
    ) -> None:
        self.dialect: Dialect | None = None
        self.definition = ValueLossDefinition(assumed=True)
        self._account = account
        self._config = config
        self._mapping = mapping
        self._given = given
        self._waiting = Waiting(mapping)
        self._records = 0
        self._falls = Named()  # of the step
        self._last_steps = -1
        self._first_time: float | None = None
        self._is_unclipped = False
        self._plain: set[str] = set()
        self._earlier: list[Mapping[str, float]] = []  # the values of the last two updates
        self._usual: list[str] | None = None  # keys that both had; None until somebody asks
        self._clear()

    def _clear(self) -> None:
        self._values: dict[str, float] = {}  # of the update that is being read: key -> last value
        self._at: dict[str, int | None] = {}  # and its step
        self._several: dict[str, list[float]] = {}  # of keys with several points: their number and their sum
        self._marked: tuple[int | None, float | None] | None = None  # step and time of the value loss

    # ------------------------------------------------------------------ which dialect it is

    def feed(self, points: Points) -> Iterator[Row]:
        """Yield the rows that these points complete.

        Raises:
            UsageError: there are many points, and no value loss among them.
        """
        self._account.records += len(points.keys)
        if self._first_time is None and points.times and (first := points.times[0]) is not None:
            self._first_time = in_seconds(first)
        if self.dialect is not None:
            yield from self._take(points)
            return
        self._waiting.add(points)
        is_much = self._account.records > MAX_POINTS_BEFORE_UPDATE
        if self._waiting.found is not None and (self._waiting.updates > 1 or is_much):
            yield from self._begin(self._waiting.found)
        elif is_much:
            raise UsageError(self.why_nothing())

    def settle(self) -> Iterator[Row]:
        """Settle the dialect by the keys so far, if they have a value loss; yield the rows that this completes.

        A log that is quiet, or at its end, has no more to tell. Without this, `feed` settles it with the second update.
        """
        if self.dialect is None and self._waiting.found is not None and self._waiting.updates:
            yield from self._begin(self._waiting.found)

    def flush(self) -> Iterator[Row]:
        """Yield the row of the update that has been read last; points that come after this are of another update."""
        yield from self.settle()
        yield from self._completed()

    def finish(self) -> Iterator[Row]:
        """Yield the last row, after the last point.

        Raises:
            UsageError: the log has no update.
        """
        yield from self.flush()
        if self.dialect is None:
            raise UsageError(self.why_nothing())
        self._finish_account()
        if not self._account.updates:
            raise UsageError(self.why_nothing())

    def pending(self) -> Row | None:
        """Return the row of the update that has been read last, as if the log ended here; None if there is none yet.

        `feed` yields that row once the next update begins: as it is here, or with what was logged in between.
        """
        return None if self._marked is None else self._made(is_final=False)

    @property
    def is_pending_first(self) -> bool:
        """Whether the pending update has none before it, whose keys could tell whether it is whole."""
        return self._marked is not None and not self._earlier

    @property
    def is_pending_whole(self) -> bool:
        """Whether the pending update has every key that both updates before it had, so that none is likely to come.

        Episodes are left out, because an update may have none.
        """
        if self._marked is None or not self._earlier:
            return False
        if self._usual is None:
            first, last = self._earlier[0], self._earlier[-1]
            self._usual = [key for key in last if key in first and self._targets[key].kind != "episode"]
        values = self._values
        return len(values) >= len(self._usual) and all(key in values for key in self._usual)

    def why_nothing(self) -> str:
        """Say why the log has no row."""
        return why_no_update(self._account, self._waiting.keys)

    def _begin(self, dialect: Dialect) -> Iterator[Row]:
        if "factor" in self._given:
            keys = [
                key._replace(factor=self._given["factor"]) if key.column == "value_loss" else key
                for key in dialect.keys
            ]
            dialect = replace(dialect, keys=tuple(keys))
        dialect = self.dialect = self._waiting.with_steps(dialect, self._account)
        self._targets = Targets(dialect, self._account, self._mapping.values())
        self._tally = Tally(self._targets, self._account)
        self._empty_losses = EmptyLosses(dialect, self._targets, self._account)
        self._marker = dialect.marker.name
        numbers = [dialect.number] if dialect.steps == "number" else []
        numbers += [key.column for key in dialect.keys if key.kind == "number"]
        self._number = numbers[0] if numbers else ""  # the column with the trainer's number of an update
        self._numbering = Numbering(self._account)
        self._rollouts = Rollouts(dialect, self._account) if dialect.lags else None
        self._rows = UpdateRows(dialect, self._targets, self._tally, self._rollouts, self._mapping.get(STEP))
        waiting, self._waiting.points = self._waiting.points, []
        for points in waiting:
            yield from self._take(points)

    # ------------------------------------------------------------------ points to updates

    def _take(self, points: Points) -> Iterator[Row]:
        """The inner loop: a log has millions of points."""
        if points.begins_anew:
            yield from self._completed()
        if points.empty is not None and points.keys:
            points = self._empty_losses.filled(points)
        steps = points.steps
        if steps and steps[0] is None:
            steps = [self._step_of_record(points)] * len(steps)
        plain, marker = self._plain, self._marker
        values, at, marked = self._values, self._at, self._marked
        for key, step, time, value in zip(points.keys, steps, points.times, points.values, strict=True):
            if key not in plain and not self._is_plain(key):
                if marked is not None and self._is_of_next(key, step, marked[0]):
                    yield from self._completed()
                    values, at, marked = self._values, self._at, self._marked
                if self._took_special(key, step, value):
                    continue
                key = self._targets[key].key  # one for all that are alike
            elif marked is not None and (step != marked[0] or at.get(key) == step):
                yield from self._completed()
                values, at, marked = self._values, self._at, self._marked
            if key in values:
                several = self._several.setdefault(key, [1, values[key]])
                several[0] += 1
                several[1] += value
            values[key] = value
            at[key] = step
            if key == marker:
                marked = self._marked = (step, time)

    def _is_plain(self, key: str) -> bool:
        """Whether a key is a number of its update, and nothing else; most points have such a key."""
        kind = "update" if self._targets.is_named_late(key) else self._targets[key].kind
        is_plain = kind in ("update", "number", "further") or (kind == "rollout" and self._rollouts is None)
        if is_plain:
            self._plain.add(key)
        return is_plain

    def _is_of_next(self, key: str, step: int | None, marked: int | None) -> bool:
        """Whether a point with such a key ends an update that has its value loss."""
        kind = self._targets[key].kind
        if kind == "rollout" and self._rollouts is not None:
            return step != marked or self._rollouts.has(key, step)
        return kind == "episode"

    def _took_special(self, key: str, step: int | None, value: float) -> bool:
        """Take a point that is no number of its own update; False if it is one all the same."""
        kind = self._targets[key].kind
        if kind == "rollout" and self._rollouts is not None:
            self._rollouts.add(key, step, value)
        elif kind == "again":
            self._account.not_imported[key] += 1
        return kind != "episode"

    def _step_of_record(self, points: Points) -> int:
        """The step of a record: the value of the key that has it; otherwise its negative number, which is no step."""
        assert self.dialect is not None
        self._records += 1
        named = self.dialect.step_key
        if named not in points.keys:
            return -self._records
        number = points.values[points.keys.index(named)]
        step = as_steps(number)
        if step is None:
            self._account.left_out.setdefault(named, f"in part: it must be a whole number of steps, found {number}")
            return -self._records
        return step

    def _completed(self) -> tuple[Row, ...]:
        """Return the row of the update that has been read, if there is one; what comes next is of another update."""
        if self._marked is None:
            return ()
        row = self._made(is_final=True)
        self._earlier = [*self._earlier[-1:], self._values]
        self._usual = None
        self._clear()
        self._tally.count(is_row=row is not None)
        if row is None:
            return ()
        self._account.count_update(row["update"])
        return (row,)

    def _made(self, *, is_final: bool) -> Row | None:
        """Make the row of the update that has been read; None if it lacks a loss. Only a final one is counted."""
        assert self._marked is not None
        values, several, (step, time) = self._values, self._several, self._marked
        self._tally.begin()
        row = self._rows.row(values, several, step, is_final=is_final)
        if is_final and self._rollouts is None and "env_steps" in row:
            self._note_fall(row["env_steps"])
        if time is not None and 0.0 < (time := in_seconds(time)) < _MAX_TIME:
            if (wall_time := round(time * 1e6)) >= LIKELY_SECONDS.stop:  # else the log counts from its own beginning
                row.setdefault("wall_time", wall_time)
            if self._first_time is not None:
                row.setdefault("elapsed_secs", time - self._first_time)
        if "policy_loss" not in row or "value_loss" not in row:
            missing = [name for name in ("policy_loss", "value_loss") if name not in row]
            at = "" if step is None or step < 0 else f" at step {step:,}"
            if is_final:
                self._account.refused.add(f"an update{at} has no {' and no '.join(missing)}")
            return None
        if not self._account.updates:
            self._settle_definition(values)
        numbering = self._numbering if is_final else self._numbering.copy()
        row["update"] = numbering.next(row.get(self._number) if self._number else None)
        if self._is_unclipped:
            row.setdefault("value_loss_unclipped", row["value_loss"])
        return row

    def _note_fall(self, steps: int) -> None:
        if steps < self._last_steps:
            self._falls.add(f"{self._last_steps:,} to {steps:,}")
        self._last_steps = steps

    def _settle_definition(self, first: Mapping[str, float]) -> None:
        """Make the definition exact from the first update; later ones are taken to be alike."""
        assert self.dialect is not None
        definition = self.dialect.value_loss
        if self.dialect.define is not None:
            definition = self.dialect.define(definition, self._config, first)
        if self.dialect.unclear:
            definition = replace(definition, assumed=True)
        if self._given:
            definition = replace(definition, **{"assumed": False, **self._given})
        self.definition = definition
        self._is_unclipped = definition.clipping == "none" and not definition.assumed

    # ------------------------------------------------------------------ the account

    def _mapped_time(self) -> list[Mapped]:
        if self._first_time is None:
            return []
        assert self.dialect is not None
        when = "of the record, so after the next rollout" if self.dialect.lags else "since the first point"
        return [Mapped("time", "wall_time, elapsed_secs", when, self._account.updates)]

    def _finish_account(self) -> None:
        account, dialect = self._account, self.dialect
        assert dialect is not None
        account.mapped = [*self._tally.mapped_steps(), *self._mapped_time(), *self._tally.mapped()]
        self._numbering.note(self._number)
        if self._falls.count:
            where, seems = describe_falls(self._falls, account.updates)
            seems = seems or "a training that was begun anew or continued; all of it is read as one"
            account.notes.append(f"the step falls ({where}): {seems}")
        if self._rollouts is not None:
            self._rollouts.note()
        self._empty_losses.note()
        self._tally.note()
        rest = Counter({key: int(self._several.get(key, (1, 0.0))[0]) for key in self._values})
        if rest:
            keys = ", ".join(f"{key} {count:,}" for key, count in rest.most_common(10))
            account.notes.append(f"behind the last update, of one that was not logged: {keys}")
        if self.definition.assumed:
            why = dialect.unclear or "what it is multiplied by, and what it clips"
            account.notes.append(
                f"the value loss is an assumption. Not in the log: {why}; give --value-loss-definition"
            )
        if dialect.name == NAME:
            note_likely_return(account)
        note_left_out(account, dialect)
        account.notes += [
            f"--map {key}: the log has no such key"
            for key in self._mapping
            if key != STEP and not (self._waiting.keys[key] or self._targets.updates_with[key])
        ]
