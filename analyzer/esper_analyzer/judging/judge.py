"""The judge: applies the rules to the updates of a run, and keeps which alerts are in force and when each began.

Report, tail, check, notebook and live monitor all use it, with a million rows at a time or with one. Many rows are
judged as a frame; few rows one by one, in the step form of the signals, which costs microseconds and plans no query.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl

from esper_analyzer.judging import rolling, signals
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.course import TYPES, Course, extend_all
from esper_analyzer.judging.hysteresis import NOT_FINITE, Change, Hysteresis, Levels, Turns
from esper_analyzer.judging.plan import ALWAYS, Plan, chosen
from esper_analyzer.judging.reference import ReferenceRun
from esper_analyzer.judging.rules import INFORMING, RULES, SIGNALS
from esper_analyzer.judging.rules.rule import Question, Rule
from esper_analyzer.judging.steps import Step
from esper_analyzer.judging.stretches import Begun, Stretches, Updates, stretches_of
from esper_analyzer.judging.watched import PARTS
from esper_schemas.metric.metrics import SKIP_REASONS
from esper_schemas.metric.payload import REQUIRED

BATCH_ROWS = 131_072
"""Number of rows that are judged at a time, in about 200 MB: it takes 20 ms to plan the queries, whatever the rows."""

STEP_ROWS = 256
"""Up to so many rows are judged one by one: a frame takes about 20 ms whatever its length, and a row 0.08 ms."""

Row = dict[str, Any]


class Judge:
    """The state of every rule after the rows so far, which must arrive in the order of their updates.

    Its size does not depend on the length of the run, and neither does the cost of one more row.

    Args:
        rules: what is watched.
        return_goal: the goal of the episode return, if one was declared. Without one, what watches the way to it is
            left out.
        references: sound runs of the same task. Without one, what watches the way beside them is left out.

    Attributes:
        rules: what is watched.
        return_goal, references: as given.
        rows: number of rows so far.
        last_update: update of the newest row; −1 if there is none.
        has_losses: whether any loss has been measured.
        in_force: episodes that still last, by position of the rule and severity.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = RULES.values(),
        return_goal: float | None = None,
        references: Sequence[ReferenceRun] = (),
    ) -> None:
        self.rules: Sequence[Rule] = tuple(rules)
        self.return_goal = return_goal
        self.references = references
        self._plan = plan = Plan.of(self.rules)
        self.rows = 0
        self.last_update = -1
        self.has_losses = False
        self.in_force: dict[tuple[int, int], Episode] = {}
        self.columns = plan.columns
        self._hysteresis = Hysteresis(self.rules)
        self._from_row = [rule.from_row for rule in self.rules]
        self._all_count_from = max(self._from_row)
        self._measurements = [name for name in self.columns if name not in ALWAYS]
        self._unmeasured = list(self.columns)
        self._unjudged = list(range(len(self.rules)))
        self._blank: Row = dict.fromkeys([*self.columns, *TYPES, *(name for part in PARTS for name in part)])
        self._updates: deque[int] = deque([0] * self._hysteresis.memory, self._hysteresis.memory)
        self._course = Course(return_goal, references)
        self._newest: list[float | None] = [None] * len(self.rules)
        # The rows before the next one: as a frame, or as dictionaries with the steps that have seen them.
        self._context: pl.DataFrame | None = plan.no_rows
        self._recent: deque[Row] = deque(maxlen=signals.CONTEXT_ROWS)
        self._parts: list[tuple[str, Step]] = []
        # Of each rule the column that has its number, or any; where none has it, the rule's position and its step.
        sources = [rule.value.column or "update" for rule in self.rules]
        self._sources = itemgetter(*sources) if len(sources) > 1 else lambda row: [row[name] for name in sources]
        self._steps: list[tuple[int, Step]] = []

    def advance(self, rows: pl.DataFrame) -> Sequence[Episode]:
        """Judge further rows, and return the episodes that begin in them, in order of updates.

        If a rule becomes critical at once, only its critical episode is returned.

        Args:
            rows: rows with `columns`, of which extras may be missing, in the order of their updates, later than all
                previous rows.
        """
        if rows.height <= STEP_ROWS:
            return [one for row in chosen(rows, self.columns).iter_rows(named=True) for one in self.step(row)]
        batches = (advance_side_by_side([(self, batch)])[0] for batch in rows.iter_slices(BATCH_ROWS))
        return Begun([one for begun in batches for one in begun.stretches])

    def _judge(self, rows: pl.DataFrame, numbers: pl.DataFrame, levels: Levels) -> list[Stretches]:
        """As `advance`; the episodes are by rule and severity.

        Args:
            rows: the rows.
            numbers: the number of each rule in them.
            levels: the severities of these.
        """
        self._leave_out_early(levels)
        self._note_judged(numbers)
        self._newest = list(numbers.row(-1))
        updates = np.concatenate([self._updates, rows["update"].to_numpy()])
        begun = self._stretches(self._hysteresis.advance(levels, rows.height), updates, numbers, rows["skip_reason"])
        self._updates.extend(updates[-self._hysteresis.memory :].tolist())
        self.rows += rows.height
        self.last_update = int(updates[-1])
        return begun

    def _leave_out_early(self, levels: Levels) -> None:
        """Remove the severities of the next rows in which a rule does not count yet."""
        if self.rows < self._all_count_from:
            for rule, severities in levels.items():
                early = severities[: max(self._from_row[rule] - self.rows, 0)]
                early[early < NOT_FINITE] = 0

    def _stretches(
        self, turns: Iterable[Turns], updates: Updates, numbers: pl.DataFrame, reasons: pl.Series
    ) -> list[Stretches]:
        """Update `in_force`; return the episodes that begin.

        Args:
            turns: where alerts begin and end.
            updates: of the remembered rows and the newest ones.
            numbers: of each rule, in the newest rows.
            reasons: why they were skipped, if they were.
        """
        found: list[Stretches] = []
        lasting: dict[tuple[int, int], Episode] = {}
        for one in turns:
            key, rule = (one.rule, one.severity), self.rules[one.rule]
            before = self.in_force.get(key)
            codes = reasons.gather(one.begun).to_list() if rule.metric == "skipped" else None
            details = None if codes is None else [_detail(rule, code) for code in codes]
            begun = stretches_of(one, rule, before, updates, rolling.floats(numbers.to_series(one.rule)), details)
            if before is not None and before.until is not None:
                del self.in_force[key]
            if begun.lasting is not None:
                lasting[key] = begun.lasting
            if one.severity == 2 and found and found[-1].rule is rule:
                found[-1].leave_out(begun)
            found.append(begun)
        self.in_force |= dict(sorted(lasting.items(), key=lambda item: (item[1].update, item[0])))
        return found

    def step(self, given: Mapping[str, Any]) -> list[Episode]:
        """As `advance`, for one row with `columns`, in microseconds."""
        row = self._blank.copy()  # has all keys, so that it need not grow
        row.update(given)
        self._note_measured(row)
        if row["skipped"]:
            row.update(dict.fromkeys(self._measurements))
        if self._context is not None:
            self._take_up(self._context)
        self._course.step(row)
        for name, part in self._parts:
            row[name] = part(row)
        newest = list(self._sources(row))
        for rule, of_rule in self._steps:
            newest[rule] = of_rule(row)
        self._newest = newest
        levels, beyond = self._plan.bounds.severities_now(newest)
        for rule in beyond[:] if self.rows < self._all_count_from else ():
            if self.rows < self._from_row[rule] and levels[rule] < NOT_FINITE:
                levels[rule] = 0
                beyond.remove(rule)
        if self._unjudged:
            self._note_judged_now(newest)
        self._recent.append(row)
        self._updates.append(row["update"])
        self.rows += 1
        self.last_update = row["update"]
        changes = self._hysteresis.step(levels, beyond)
        for (rule, _), episode in self.in_force.items():
            value = newest[rule]
            if levels[rule] and value is not None:  # a number within the bounds is not the worst of an episode
                episode.follow_one(row["update"], value)
        if not changes:
            return []
        return self._episodes(changes, row["skip_reason"])

    def advance_all(self, updates: pl.LazyFrame) -> Iterator[Sequence[Episode]]:
        """As `advance`, for a whole run in bounded memory; yields the episodes of each batch of rows."""
        for batch in chosen(updates, self.columns).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            yield self.advance(batch)

    @property
    def measured(self) -> set[str]:
        """The columns of which anything was measured."""
        return set(self.columns).difference(self._unmeasured)

    @property
    def judged(self) -> list[Rule]:
        """The rules whose number was known in a row that counts."""
        unjudged = set(self._unjudged)
        return [rule for i, rule in enumerate(self.rules) if i not in unjudged and rule.is_asked]

    def has_judged(self, *questions: Question) -> bool:
        """Whether any of the rules that answer one of these questions could be judged."""
        rules = enumerate(self.rules)
        return any(rule.question in questions and i not in self._unjudged and rule.is_asked for i, rule in rules)

    def values(self) -> dict[str, float | None]:
        """Return the newest value of each rule's number, by the rule's name."""
        named = zip(self.rules, self._newest, strict=True)
        return {rule.name: None if value is None else value + 0.0 for rule, value in named}  # −0.0 is 0.0

    def measured_now(self, column: str) -> float | None:
        """Return the value of one of `columns`, or of the columns of the course, in the newest row."""
        if not self.rows:
            return None
        value = self._recent[-1][column] if self._context is None else self._context[column][-1]
        return None if value is None else float(value)

    @property
    def goal_reached(self) -> int | None:
        """The first update after which the smoothed return was at the goal or above; None before, or without a goal."""
        update = self.measured_now("goal_reached")
        return None if update is None else int(update)

    def signals(self) -> dict[str, float | None]:
        """Return every signal after the newest row, by name: those that rules watch, and those that only inform."""
        return signals_of([self])[0]

    def _as_frame(self) -> pl.DataFrame:
        """The rows before the next one as a frame."""
        if self._context is None:
            self._context = pl.DataFrame([*self._recent], schema=self._plan.no_rows.schema)
        return self._context

    def _take_up(self, context: pl.DataFrame) -> None:
        """Make new steps, and give them the rows before the next one, which were judged as a frame."""
        self._parts = [(name, signal.step()) for part in PARTS for name, signal in part.items()]
        self._steps = [(i, rule.value.step()) for i, rule in enumerate(self.rules) if not rule.value.column]
        self._recent.clear()
        for row in context.iter_rows(named=True):
            for name, part in self._parts:
                row[name] = part(row)
            for _, of_rule in self._steps:
                of_rule(row)
            self._recent.append(row)
        self._context = None

    def _note_all_measured(self, rows: pl.DataFrame) -> None:
        """As `_note_measured`, for many rows."""
        self._unmeasured = [name for name in self._unmeasured if rows[name].null_count() == rows.height]
        self.has_losses = any(name not in self._unmeasured for name in REQUIRED)

    def _note_measured(self, row: Row) -> None:
        """Note which columns were measured for the first time."""
        if self._unmeasured:
            self._unmeasured = [name for name in self._unmeasured if row[name] is None]
            self.has_losses = self.has_losses or any(name not in self._unmeasured for name in REQUIRED)

    def _note_judged(self, numbers: pl.DataFrame) -> None:
        """Note which rules had a number for the first time in a row that counts."""
        columns = numbers.get_columns()
        for i in self._unjudged[:]:
            early = max(0, self._from_row[i] - self.rows)
            unknown = columns[i].null_count()
            if unknown < numbers.height and unknown - columns[i].head(early).null_count() < numbers.height - early:
                self._unjudged.remove(i)

    def _note_judged_now(self, newest: Sequence[float | None]) -> None:
        """As `_note_judged`, for one row."""
        found = [i for i in self._unjudged if newest[i] is not None and self.rows >= self._from_row[i]]
        for i in found:
            self._unjudged.remove(i)

    def _episodes(self, changes: Iterable[Change], reason: int | None) -> list[Episode]:
        """Update `in_force`; return the episodes that begin with the newest row, skipped for this reason, if it was."""
        begun: list[Episode] = []
        for change in changes:
            key, update = (change.rule, change.severity), self.last_update
            if not change.begins:
                self.in_force.pop(key).until = update
                continue
            rule, value = self.rules[change.rule], self._newest[change.rule]
            assert value is not None
            since = self._updates[change.since - 1]
            self.in_force[key] = Episode(rule, change.severity, since, update, float(value), _detail(rule, reason))
            if change.severity == 2 and begun and begun[-1].rule is rule:
                begun.pop()  # a warning that is critical at once
            begun.append(self.in_force[key])
        return begun


def signals_of(judges: Sequence[Judge]) -> list[dict[str, float | None]]:
    """Return `Judge.signals` of each of several judges; those that no rule watches are computed in one query."""
    frames = [judge._as_frame().select(_INFORMED_BY) for judge in judges if judge.rows]
    informing = iter(_informing(frames) if frames else ())
    found = []
    for judge in judges:
        values = judge.values()
        watched = {name: values.get(name) for name in SIGNALS}
        found.append(watched | (next(informing) if judge.rows else dict.fromkeys(INFORMING)))
    return found


def _informing(frames: Sequence[pl.DataFrame]) -> list[dict[str, float | None]]:
    """Return the signals that no rule watches in the last row of each of these frames, which have a row at least."""
    places = pl.Series("", np.repeat(np.arange(len(frames)), [frame.height for frame in frames]))
    grouped = pl.concat(frames).group_by(places, maintain_order=True)
    return grouped.agg(**{name: signal.last() for name, signal in INFORMING.items()}).drop("").rows(named=True)


_INFORMED_BY = sorted({name for signal in INFORMING.values() for name in signal.meta.root_names()})


def judge_each(portions: Sequence[tuple[Judge, pl.DataFrame]], *, side_by_side: bool) -> list[Sequence[Episode]]:
    """Call `Judge.advance` with the rows of each of several runs, or do the same side by side, which costs less.

    Args:
        portions: for each run its judge and its rows; all judges have the same rules.
        side_by_side: whether the rules are those of the tables, whose windows take a null row for none.
    """
    few = [at for at, (_, rows) in enumerate(portions) if 0 < rows.height <= BATCH_ROWS]
    made: dict[int, Sequence[Episode]] = {}
    if side_by_side and sum(portions[at][1].height for at in few) > STEP_ROWS:
        made = dict(zip(few, advance_side_by_side([portions[at] for at in few]), strict=True))
    return [made[at] if at in made else judge.advance(rows) for at, (judge, rows) in enumerate(portions)]


def advance_side_by_side(portions: Sequence[tuple[Judge, pl.DataFrame]]) -> list[Begun]:
    """As `Judge.advance` for the rows of several runs, whose queries are planned once for all of them.

    Null rows between two runs keep the windows of one from reaching into the other.

    Args:
        portions: as for `judge_each`, each with a row at least.
    """
    first = portions[0][0]
    frames = [rows if rows.columns == first.columns else chosen(rows, first.columns) for _, rows in portions]
    for (judge, _), rows in zip(portions, frames, strict=True):
        judge._note_all_measured(rows)
    heights = [rows.height for rows in frames]
    joined = without_skipped(pl.concat(frames, rechunk=True))
    joined = extend_all([judge._course for judge, _ in portions], joined, heights)
    parts = [joined.slice(end - height, height) for end, height in zip(accumulate(heights), heights, strict=True)]
    gap = first._plan.gap
    pieces, places, length = list[pl.DataFrame](), list[tuple[int, int]](), 0
    for (judge, _), rows in zip(portions, parts, strict=True):
        before = judge._as_frame()
        pieces += [gap, before, rows] if pieces else [before, rows]
        begin = length + (gap.height if length else 0)
        places.append((begin, begin + before.height))
        length = begin + before.height + rows.height
    frame = pl.concat([piece for piece in pieces if piece.height], rechunk=len(portions) > 1)
    numbers = first._plan.numbers(frame)
    levels = first._plan.bounds.severities(numbers)
    found = []
    for (judge, _), rows, (begin, start) in zip(portions, parts, places, strict=True):
        end = start + rows.height
        judge._context = frame.slice(begin, end - begin).tail(signals.CONTEXT_ROWS)
        own = {rule: part for rule, severities in levels.items() if (part := severities[start:end]).any()}
        found.append(Begun(judge._judge(rows, numbers.slice(start, rows.height), own)))
    return found


def numbers_of(
    rows: pl.DataFrame,
    rules: Iterable[Rule] = RULES.values(),
    return_goal: float | None = None,
    references: Sequence[ReferenceRun] = (),
) -> pl.DataFrame:
    """Return the number of each rule in each row of a whole run.

    Args:
        rows: all rows of a run, with the columns that a `Judge` of these rules reads.
        rules: what is watched.
        return_goal, references: as for a `Judge`.

    Returns:
        One column (Float64) for each rule, by its name; null where it has no number.
    """
    return Plan.of(tuple(rules)).numbers(Course(return_goal, references).extend(without_skipped(rows)))


def without_skipped(rows: pl.DataFrame) -> pl.DataFrame:
    """Remove the measurements of skipped updates."""
    if not rows["skipped"].any():
        return rows
    measured = pl.when(~pl.col("skipped").fill_null(False)).then(pl.exclude(*ALWAYS))
    return rows.select(pl.col(*ALWAYS), measured).select(rows.columns)


def _detail(rule: Rule, code: int | None) -> str:
    """Describe why an update was skipped, if the reason was recorded."""
    if rule.metric != "skipped" or code is None:
        return ""
    return f" ({SKIP_REASONS.get(code, f'reason {code}')})"
