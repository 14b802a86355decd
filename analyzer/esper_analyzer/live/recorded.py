"""The feed that replays a recorded run: pictures of any moment, with what was known then and nothing later."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import polars as pl

from esper_analyzer.judging.alert_log import AlertLog
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.plan import chosen
from esper_analyzer.judging.verdict import RunFacts, Verdict, conclude
from esper_analyzer.live.clock import Clock, replay_times
from esper_analyzer.live.feed import JUDGED_AT_ONCE, Feed, events_of, newest_rows
from esper_analyzer.live.picture import CHARTED, MAX_EVENTS, RECENT_ROWS, Detail, Picture
from esper_analyzer.measuring.history import History, history_of
from esper_analyzer.measuring.places import Places
from esper_analyzer.reading.gaps import Numbering, Range, attempts_in
from esper_analyzer.reading.run_index import dropped_rows, every_row_of, rows_of

_State = tuple[Judge, AlertLog]

_BLOCK_ROWS = 4 * RECENT_ROWS


class RecordedFeed(Feed):
    """Makes pictures of a recorded run after any number of its rows.

    The whole run is judged once, in steps, to find when each alert was raised. The judge never looks ahead, so these
    are the alerts that a tail would have shown. A copy of the judge is kept after each step, so the verdict at any
    moment, forwards or backwards, costs at most one step.

    Attributes:
        clock: the clock of the replay; for the thread that draws.
    """

    def __init__(self, run: JudgedRun, rank: int, *, speed: float | None = None) -> None:
        """Replay `speed` times faster than recorded; 0 is as fast as possible, None takes about 25 seconds."""
        super().__init__(run, rank)
        found = run.look(rank)
        index = found.rank(rank)
        self._frame = rows_of(index)
        when = self._frame.select("update", "wall_time", pl.col("dropped_before").fill_null(0).cum_sum()).collect()
        self.clock = Clock(replay_times(when["wall_time"]), speed)
        self.total = when.height
        self._updates = when["update"].to_numpy()
        self._dropped = when["dropped_before"].to_numpy()
        self._damage = found.damage_of(rank)
        self._ending = run.ending(rank)
        self._every_row = every_row_of(index, self._frame)
        self._all_dropped = dropped_rows(index, self._every_row)
        self._history = History.empty(CHARTED)
        self._places = Places()
        self._attempts: list[tuple[int, int]] = []
        self._raised: list[int] = []  # the update of each time that an alert was raised so far, in order
        self._numbering = Numbering()
        self._states: list[_State] = [(run.judge(), AlertLog())]  # after each step
        self._at = _copy(self._states[0])
        self._block = (0, pl.DataFrame())
        self._position, self._shown = 0, -1
        self._work: Iterator[None] | None = self._read()

    # ------------------------------------------------------------------ for the thread that draws

    def seek(self, position: int) -> None:
        """Make the following pictures show the state after so many rows. May be called from any thread."""
        self._position = max(0, min(position, self.total))

    def alert_after(self, position: int) -> int | None:
        """Return the number of rows at the next alert, of those found so far. May be called from any thread."""
        raised = self._raised
        index = bisect_right(raised, self._update_at(position))
        return self._position_of(raised[index]) if index < len(raised) else None

    def alert_before(self, position: int) -> int | None:
        """As `alert_after`, for the previous alert."""
        raised = self._raised
        index = bisect_right(raised, self._update_at(position) - 1) - 1
        return self._position_of(raised[index]) if index >= 0 else None

    @property
    def is_judged(self) -> bool:
        """Whether all alerts have been found. May be read from any thread."""
        return self._work is None

    def _update_at(self, position: int) -> int:
        return int(self._updates[position - 1]) if position else -1

    def _position_of(self, update: int) -> int:
        return int(np.searchsorted(self._updates, update, side="right"))

    # ------------------------------------------------------------------ rows

    def finish(self) -> Picture:
        """Return the picture of the whole run."""
        self.seek(self.total)
        return super().finish()

    def look(self) -> bool:
        """Return whether the moment to show has changed."""
        return self._position != self._shown

    def work(self) -> bool:
        """Read or judge a part of the run."""
        if self._work is None:
            return False
        if next(self._work, self) is self:
            self._work = None
        return True

    def _read(self) -> Iterator[None]:
        self._history = history_of(self._frame, CHARTED)
        self._places = Places.of(self._frame, self._every_row)
        self._numbering = Numbering.of(self._frame)
        self._attempts = attempts_in(self._frame)
        self._raised = [last + 1 for _, last in self._numbering.missing]
        self._shown = -1
        yield
        judge, log = self.run.judge(), AlertLog()
        columns = chosen(self._frame, judge.columns)
        for batch in columns.collect_batches(chunk_size=JUDGED_AT_ONCE, maintain_order=True):
            for start in range(0, batch.height, JUDGED_AT_ONCE):
                begun = judge.advance(batch.slice(start, JUDGED_AT_ONCE))
                log.add(begun)
                self._raised = sorted([*self._raised, *(episode.update for episode in begun)])
                self._states.append(_copy((judge, log)))
                self._shown = -1
                yield

    def _all_rows(self) -> pl.LazyFrame:
        return self._frame

    def _rows(self, start: int, stop: int) -> pl.DataFrame:
        """Return the rows from position `start` up to `stop`; they are read in blocks."""
        first, block = self._block
        if not (first <= start and stop <= first + block.height):
            low, high = max(0, start - RECENT_ROWS), min(self.total, stop + _BLOCK_ROWS)
            inside = pl.col("update").is_between(int(self._updates[low]), int(self._updates[high - 1]))
            first, block = low, self._frame.filter(inside).collect()
            self._block = (first, block)
        return block[start - first : stop - first]

    # ------------------------------------------------------------------ result

    def picture(self) -> Picture:
        """Return the state at the position of the last `seek`."""
        position = self._shown = self._position
        if not position:
            return Picture("replay", total=self.total, thresholds=self.run.settings.thresholds)
        now = int(self._updates[position - 1])
        recent = newest_rows(pl.DataFrame(), self._rows(max(0, position - RECENT_ROWS), position))
        judged = self._states[-1][0].rows
        judge, log = self._after(min(position, judged))
        missing, stride = [gap for gap in self._numbering.missing if gap[1] < now], self._numbering.stride
        detail = self._detail
        if detail is not None:
            detail = Detail(detail.metric, detail.first, detail.last, self._known(detail.history, position))
        return Picture(
            status="replay",
            ending=self._ending if position == self.total else None,
            rows=position,
            total=self.total,
            recent=recent,
            history=self._known(self._history, position),
            pinned=self._known(self._pinned, position),
            places=self._places,
            events=events_of(
                log.alerts(judge.in_force.values(), missing, stride),
                [(attempt, update) for attempt, update in self._attempts if update <= now],
            ),
            gaps=tuple(missing[-MAX_EVENTS:]),
            verdict=self._verdict(judge, missing, position) if judged >= position else None,
            judged=min(judged, position),
            damage=self._damage,
            detail=detail,
            row=self._row if self._row is not None and self._row[0] <= now else None,
            thresholds=self.run.settings.thresholds,
        )

    def _known(self, history: History, position: int) -> History:
        """Return a history as it was known at a position, without later rows in its last bucket."""
        now = int(self._updates[position - 1])
        known = history.until(now)
        span = history.span
        if span is None or span[0] > now or (known.span is not None and known.span[1] >= min(now, span[1])):
            return known
        start = span[0] if known.span is None else known.span[1] + 1
        begin = int(np.searchsorted(self._updates, start))
        part = History(known.names, known.frame.clear(), known.width).with_rows(self._rows(begin, position))
        if part.width != known.width or not known.frame.height:
            return part if not known.frame.height else known
        return History(known.names, pl.concat([known.frame, part.frame]), known.width)

    def _after(self, position: int) -> _State:
        """Return the judge and the alerts after so many rows, starting from the nearest earlier copy of them."""
        index = bisect_right(self._states, position, key=lambda state: state[0].rows) - 1
        near = self._states[index]
        if not near[0].rows <= self._at[0].rows <= position:
            self._at = _copy(near)
        judge, log = self._at
        if judge.rows < position:
            log.add(judge.advance(self._rows(judge.rows, position)))
        return self._at

    def _verdict(self, judge: Judge, missing: list[Range], position: int) -> Verdict:
        """Return the verdict after so many rows, which the judge has seen."""
        dropped = self._all_dropped if position == self.total else int(self._dropped[position - 1])
        remarks = [*self.run.remarks, *self._numbering.remarks]
        known = (self._numbering.stride, self.run.value_clip, self.run.is_goal_published)
        return conclude(judge, RunFacts(missing, dropped, self._damage, remarks, *known))


def _copy(state: _State) -> _State:
    """Copy a judge and its alerts, which share the episodes in force; the copy shares the rules."""
    rules = state[0].rules
    return copy.deepcopy(state, {id(rules): rules, **{id(rule): rule for rule in rules}})
