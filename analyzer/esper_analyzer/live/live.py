"""A run that is being written, as pictures: what is there is read and judged piece by piece, what is new at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import polars as pl

from esper_analyzer.judging.alerts import Alert, gap_alerts
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.verdict import RunFacts, conclude
from esper_analyzer.live.feed import JUDGED_AT_ONCE, MANY_ROWS, Feed, data_events, end_of, newest_rows
from esper_analyzer.live.follow import sealed_part
from esper_analyzer.live.picture import CHARTED, MAX_EVENTS, RECENT_ROWS, Detail, Event, Picture
from esper_analyzer.measuring.history import History, history_of, with_frames
from esper_analyzer.reading.gaps import attempts_in, gaps_in
from esper_analyzer.reading.run_index import dropped_in, every_row_of, rows_of
from esper_analyzer.reading.run_reader import GOING_ON, Status
from esper_analyzer.reading.segment_index import SegmentIndex, to_frame
from esper_schemas.errors import FormatVersionError, NotARunError, RunDamagedError

STATUS_SECS = 1.0
STALE_STATUS_SECS = 5.0
"""Of a stale run the status is asked for less often, since that reads its newest rows."""


class LiveFeed(Feed):
    """Pictures of a run that may still be written.

    The newest rows are in the first picture; the course of the metrics is read next, and then the rows are judged,
    oldest first, which takes a few seconds for a million of them. What comes in meanwhile is shown at once and
    judged when its turn comes. Rows of a new attempt that supersede others have everything read and judged anew.
    """

    def __init__(
        self,
        run: JudgedRun,
        rank: int,
        *,
        on_alert: Callable[[Alert], object] | None = None,
        is_new: bool = False,
    ) -> None:
        """`on_alert` is told of each alert raised from now on, or of all if the run `is_new`."""
        super().__init__(run, rank)
        self._on_alert = on_alert
        found = run.look(rank)
        self.damage = found.damage_of(rank)
        sealed, start = sealed_part(found.rank(rank))
        self._last_seq = sealed.pieces[-1].last_seq if sealed.pieces else -1
        self._follower = found.follower(run.directory, rank, start)
        self._known_faults = 0
        self._history = History.empty(CHARTED)
        self._status: Status | Literal["gone"] = run.status(rank)
        self._asked = time.monotonic()
        self._is_checked = self._status not in GOING_ON
        self._wish: Detail | None = None
        self._news_from = -1 if is_new else 2**63  # first update whose alerts are news
        self._begin(sealed)
        self._take_in(self._poll())
        if not is_new:
            self._news_from = -1 if self._last is None else self._last + 1

    @property
    def is_long(self) -> bool:
        """Whether there are so many rows that one more hardly changes a picture."""
        return self._rows >= MANY_ROWS

    def close(self) -> None:
        """Close the file that is being followed."""
        self._follower.close()

    # ------------------------------------------------------------------ rows

    def look(self) -> bool:
        """Take in the rows that are new, and ask for the status now and then.

        Raises:
            FormatVersionError: a segment was written by a newer Esper.
        """
        status = self._status
        secs = STALE_STATUS_SECS if status == "stale" else STATUS_SECS
        if time.monotonic() - self._asked >= secs:
            self._asked = time.monotonic()
            status = self.run.status(self.rank) if self.run.is_there() else "gone"
        changed = self._take_in(self._poll()) or status != self._status
        if len(self._follower.faults) > self._known_faults:  # a part of the segment that was followed could not be read
            self._known_faults = len(self._follower.faults)
            self._check()
            changed = True
        self._is_checked &= status == self._status
        self._status = status
        return changed

    def _poll(self) -> list[pl.DataFrame]:
        """What is new; nothing where a file cannot be read, which is damage."""
        try:
            return [to_frame(batch) for batch in self._follower.poll() if batch.num_rows]
        except FormatVersionError:
            raise
        except (OSError, RunDamagedError):
            self.damage = max(self.damage, 1)
            return []

    def _check(self) -> None:
        """Look at the run's files again for damage."""
        with suppress(NotARunError):  # it is gone, which the status says
            self.damage = self.run.look(self.rank).damage_of(self.rank)

    def _take_in(self, frames: list[pl.DataFrame]) -> bool:
        if not frames:
            return False
        rows = pl.concat(frames, how="diagonal")
        self._last_seq = int(rows["seq"][-1])
        updates = rows["update"]
        if (self._last is None or updates[0] > self._last) and bool((updates.diff().drop_nulls() > 0).all()):
            self._add(rows)
            return True
        self._news_from = int(updates.min())  # type: ignore[arg-type]
        self._begin(self.run.look(self.rank, "records").rank(self.rank))
        return True

    def _begin(self, index: SegmentIndex) -> None:
        """Start from the rows of an index so far; their course and their judgement are left for `work`."""
        of_index = rows_of(index)
        rows = of_index.filter(pl.col("seq") <= self._last_seq)
        every_row = every_row_of(index, of_index).filter(pl.col("seq") <= self._last_seq)
        self._recent = end_of(rows, index.pieces)
        self._last: int | None = int(self._recent["update"][-1]) if self._recent.height else None
        self._rows = index.rows if self._recent.height == RECENT_ROWS else self._recent.height
        self._dropped, self._dropped_by_attempts = 0, self.run.dropped_by_attempts(self.rank)
        self._gaps: list[tuple[int, int]] = []
        self._attempts: dict[int, int] = {}
        self._episodes: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._judge = Judge(self.run.settings.rules)
        self._not_in_history: list[pl.DataFrame] | None = []
        self._not_judged: list[pl.DataFrame] | None = []
        self._wish, self._detail = self._detail or self._wish, None
        self._row = None
        self._work: Iterator[None] | None = self._catch_up(rows, every_row)

    def _add(self, rows: pl.DataFrame) -> None:
        """Rows that come after all others."""
        first, last = int(rows["update"][0]), int(rows["update"][-1])
        if last - (first - 1 if self._last is None else self._last) != rows.height:
            gaps = gaps_in(rows.lazy(), self._last)
            self._tell(gap_alerts(gaps))
            self._gaps += gaps
        self._dropped += int(rows["dropped_before"].sum() or 0)
        if int(rows["attempt"][-1]) not in self._attempts:
            self._attempts = dict(attempts_in(rows.lazy())) | self._attempts
        self._recent = newest_rows(self._recent, rows)
        self._last = last
        self._rows += rows.height
        if self._not_in_history is None:
            self._history = self._history.with_rows(rows)
        else:
            self._not_in_history.append(rows)
        if self._not_judged is None:
            self._advance(rows)
        else:
            self._not_judged.append(rows)
        detail = self._detail
        if detail is not None and detail.last is None:
            self._detail = Detail(detail.metric, detail.first, None, detail.history.with_rows(rows))

    # ------------------------------------------------------------------ what takes longer

    def work(self) -> bool:
        """Read or judge a piece of what was there at the beginning; check the files of a run that has ended."""
        if self._work is not None:
            if next(self._work, self) is self:
                self._work = None
            return True
        if self._status not in (*GOING_ON, "gone") and not self._is_checked:
            self._check()
            self._dropped_by_attempts = self.run.dropped_by_attempts(self.rank)
            self._is_checked = True
            return True
        return False

    def _catch_up(self, rows: pl.LazyFrame, every_row: pl.LazyFrame) -> Iterator[None]:
        """Read the course of the metrics, then judge, in pieces."""
        history = history_of(rows, CHARTED)
        gaps = gaps_in(rows, None)
        self._tell(gap_alerts(gaps))
        self._gaps = [*gaps, *self._gaps]
        self._dropped += dropped_in(every_row)
        self._attempts |= dict(attempts_in(rows))
        self._history = with_frames(history, self._not_in_history or [])
        self._rows = self._history.rows
        self._not_in_history = None
        if self._wish is not None:
            self.read_detail(self._wish.metric, self._wish.first, self._wish.last)
            self._wish = None
        yield
        for batch in rows.select(self._judge.columns).collect_batches(chunk_size=JUDGED_AT_ONCE, maintain_order=True):
            self._advance(batch)
            yield
        while self._not_judged:
            self._advance(self._not_judged.pop(0))
            yield
        self._not_judged = None

    def _advance(self, rows: pl.DataFrame) -> None:
        for episode in self._judge.advance(rows):
            self._episodes.append(Event.of(episode))
            if self._on_alert is not None and episode.update >= self._news_from:
                self._on_alert(episode.alert())

    def _tell(self, alerts: list[Alert]) -> None:
        for alert in alerts:
            if self._on_alert is not None and alert.update >= self._news_from:
                self._on_alert(alert)

    # ------------------------------------------------------------------ result

    def picture(self) -> Picture:
        """The state now; the verdict only once all rows have been judged."""
        of_data = data_events(self._gaps[-MAX_EVENTS:], self._attempts.items())
        events = sorted([*self._episodes, *of_data], key=lambda event: event.update)
        verdict = None
        if self._not_judged is None:
            dropped = max(self._dropped, self._dropped_by_attempts)
            facts = RunFacts(self._gaps, dropped, self.damage, self.run.remarks)
            verdict = conclude(self._judge, facts)
        return Picture(
            status=self._status,
            rows=self._rows,
            total=self._rows,
            recent=self._recent,
            history=self._history,
            events=tuple(events[-MAX_EVENTS:]),
            verdict=verdict,
            judged=self._judge.rows,
            damage=self.damage,
            detail=self._detail,
            row=self._row,
            thresholds=self.run.settings.thresholds,
        )
