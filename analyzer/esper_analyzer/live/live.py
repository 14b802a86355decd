"""The feed that follows a run while it is written, or shows it as it is; it reads and judges only what is new."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from typing import Literal

import polars as pl

from esper_analyzer.caching.judgements import judgement_in_steps
from esper_analyzer.judging.alert_log import AlertLog, gap_alert
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement
from esper_analyzer.judging.plan import chosen
from esper_analyzer.judging.verdict import RunFacts, Verdict, conclude
from esper_analyzer.live.feed import JUDGED_AT_ONCE, MANY_ROWS, Feed, end_of, events_of, newest_rows
from esper_analyzer.live.picture import CHARTED, MAX_EVENTS, RECENT_ROWS, Detail, Picture
from esper_analyzer.measuring.history import History, history_of, with_frames
from esper_analyzer.measuring.places import Places
from esper_analyzer.reading.gaps import MIN_STEPS, Numbering, attempts_in, numbering_of_new
from esper_analyzer.reading.run_index import RunIndex, dropped_in, every_row_of, rows_of
from esper_analyzer.reading.segment_index import SegmentIndex, to_frame
from esper_schemas.errors import FormatVersionError, NotARunError, RunDamagedError
from esper_schemas.run.ending import GOING_ON, Ending, Status
from esper_schemas.segment.follow import RankFollower

STATUS_SECS = 1.0
STALE_STATUS_SECS = 5.0
"""The status of a stale run is checked less often, because the check reads its newest rows."""


class LiveFeed(Feed):
    """Makes pictures of a run that may still be written.

    The first picture has the newest rows. `work` then reads the course of the metrics and judges the rows, oldest
    first, which takes a few seconds for a million rows. Rows that arrive meanwhile are shown at once and judged in
    their turn. If rows of a new attempt supersede others, everything is read and judged again.

    The judgement on a run that has ended is kept in the user's cache folder, as that of a report is. If such a run goes
    on after all, its rows are judged again.

    Attributes:
        damage: number of faults of the rank, or of the run as a whole, that are damage.
        ending: how the rank ended, or that it goes on; None if the run is gone. It is checked before the newest rows
            are read, so a status that says the run has ended means that no row is left to read.
        rows: number of rows that count.
        new_rows: the rows of the last look, as they were recorded; an empty frame if there were none.
    """

    def __init__(
        self,
        run: JudgedRun,
        rank: int,
        *,
        on_alert: Callable[[Alert], object] | None = None,
        is_new: bool = False,
        charted: tuple[str, ...] = CHARTED,
        found: RunIndex | None = None,
    ) -> None:
        """Start from what the run has recorded so far.

        Args:
            run, rank: what to follow.
            on_alert: called each time a rule is raised from now on, with the rank in the alert.
            is_new: whether the run started after the caller did, so that all its alerts are reported.
            charted: the metrics whose course is kept.
            found: the index of the run, if it was examined just before; by default it is examined now.
        """
        super().__init__(run, rank)
        self._on_alert = on_alert
        self.ending: Ending | None = run.ending(rank)
        self._asked = time.monotonic()
        index = found or run.look(rank)
        self.damage = index.damage_of(rank)
        sealed, start = _sealed_part(index.rank(rank))
        recording = index.recording
        self._last_seq = sealed.pieces[-1].last_seq if sealed.pieces else -1
        self._follower = RankFollower(
            run.directory.rank(rank), start, run_id=recording.run_id, run_uuid=recording.run_uuid
        )
        self._known_faults = 0
        self._charted = charted
        self._history = History.empty(charted)
        self._places = Places()
        self._wish: Detail | None = None
        self._earlier: pl.LazyFrame | None = None
        self._news_from, self._again = -1, set[int]()
        self._begin(sealed, None if is_new and on_alert is not None else index)
        self._take_in(self._poll())
        self._is_checked = found is not None or self.status not in GOING_ON
        self._news_from = -1 if is_new or self._last is None else self._last + 1
        self._again.clear()

    @property
    def status(self) -> Status | Literal["gone"]:
        """Status of the rank, or `gone`."""
        return "gone" if self.ending is None else self.ending.status

    @property
    def is_long(self) -> bool:
        """Whether there are so many rows that one more hardly changes a picture."""
        return self.rows >= MANY_ROWS

    @property
    def has_ended(self) -> bool:
        """Whether no row can follow: the run has ended, or nothing of it may be read, not even its status."""
        is_closed_to_us = self.status == "unknown" and self.damage > 0 and not self.rows
        return is_closed_to_us or self.status not in GOING_ON

    def close(self) -> None:
        """Close the file that is being followed."""
        self._follower.close()

    # ------------------------------------------------------------------ rows

    def look(self) -> bool:
        """Read the new rows, and check the status from time to time.

        Raises:
            FormatVersionError: a segment was written by a newer Esper.
        """
        self._earlier = None
        ending = self.ending
        secs = STALE_STATUS_SECS if self.status == "stale" else STATUS_SECS
        if time.monotonic() - self._asked >= secs:
            self._asked = time.monotonic()
            ending = self.run.ending(self.rank) if self.run.is_there() else None
        has_rows = self._take_in(self._poll())
        if has_rows and ending is not None and ending.status == "stale":
            self._asked = -math.inf  # it is writing again: check the status at the next look
        changed = has_rows or ending != self.ending
        if len(self._follower.faults) > self._known_faults:  # part of the followed segment could not be read
            self._known_faults = len(self._follower.faults)
            self._count_damage()
            changed = True
        self._is_checked &= ending == self.ending
        self.ending = ending
        return changed

    def take_earlier(self) -> pl.LazyFrame:
        """Return all rows so far, in order of updates. Call this at most once, before the first look.

        The sealed files stay open as long as the frame lives.
        """
        earlier, self._earlier = self._earlier, None
        assert earlier is not None
        return earlier

    def check(self) -> None:
        """Check the run's files again for damage and drops, unless nothing has changed since the last check.

        Raises:
            NotARunError: the run no longer existed at the last look.
        """
        if self.status == "gone":
            raise NotARunError(f"{self.run.path} no longer exists")
        if not self._is_checked:
            self._count_damage()
            self._dropped_by_attempts = self.run.dropped_by_attempts(self.rank)
            self._is_checked = True

    def _poll(self) -> list[pl.DataFrame]:
        """Return the new rows; none if a file cannot be read, which counts as damage."""
        try:
            return [to_frame(batch) for batch in self._follower.poll() if batch.num_rows]
        except FormatVersionError:
            raise
        except (OSError, RunDamagedError):
            self.damage = max(self.damage, 1)
            return []

    def _count_damage(self) -> None:
        with suppress(NotARunError):  # the status reports that it no longer exists
            found = self.run.look(self.rank)
            is_other = found.damage_of(self.rank) != self.damage
            self.damage = found.damage_of(self.rank)
            if is_other and self._has_ended_before:
                self._begin(found.rank(self.rank), found)

    def _take_in(self, frames: list[pl.DataFrame]) -> bool:
        """Add new rows, or start again if they supersede others; return whether there are new rows."""
        self.new_rows = rows = pl.concat(frames, how="diagonal") if frames else pl.DataFrame()
        if not rows.height:
            return False
        self._is_checked = False
        self._last_seq = int(rows["seq"][-1])
        numbering = numbering_of_new(rows, self._last)
        if numbering is not None and not self._has_ended_before:
            self._add(rows, numbering)
            return True
        is_judged, judged_to = self._not_judged is None, self._judge.last_update
        self._begin(self.run.look(self.rank, "records").rank(self.rank))
        again = set(rows["update"].to_list())
        if is_judged:  # then all earlier alerts have been reported
            self._again, self._news_from = again, -1 if self._last is None else self._last + 1
        else:
            self._again, self._news_from = self._again | again, max(self._news_from, judged_to + 1)
        return True

    def _begin(self, index: SegmentIndex, found: RunIndex | None = None) -> None:
        """Start from the rows of an index; `work` reads their course and judges them.

        `found` is what the index is a part of, if the judgement on it may be one that was kept.
        """
        of_index = rows_of(index)
        if index.rows < MANY_ROWS:  # read them once, instead of once for everything that is asked of them
            of_index = of_index.collect().lazy()
        rows = of_index.filter(pl.col("seq") <= self._last_seq)
        every_row = every_row_of(index, of_index).filter(pl.col("seq") <= self._last_seq)
        self._recent = end_of(rows, index.pieces)
        if self._recent["update"].null_count():
            raise RunDamagedError(f"{self.run.path}: the update is null in a row of a sealed segment")
        self._last: int | None = int(self._recent["update"][-1]) if self._recent.height else None
        self.rows = index.rows if self._recent.height == RECENT_ROWS else self._recent.height
        self._earlier = rows
        self._dropped, self._dropped_by_attempts = 0, self.run.dropped_by_attempts(self.rank)
        self._numbering = Numbering()
        self._attempts: dict[int, int] = {}
        self._log = AlertLog()
        self._gaps_told_to = -1
        self._judge_made: Judge | None = None
        steps = None if found is None else judgement_in_steps(self.run, found, self.rank, rows)
        self._has_ended_before = steps is not None
        self._judgement: Judgement | None = None
        self._judged = 0
        self._not_in_history: list[pl.DataFrame] | None = []
        self._not_judged: list[pl.DataFrame] | None = []
        self._wish, self._detail = self._detail or self._wish, None
        self._row = None
        self._work: Iterator[None] | None = self._catch_up(rows, every_row, steps)

    def _add(self, rows: pl.DataFrame, numbering: Numbering) -> None:
        """Add rows that follow all others, and how they are numbered from the last of these on."""
        last = int(rows["update"][-1])
        self._numbering.extend(numbering)
        if self._earlier is not None:
            self._earlier = pl.concat([self._earlier, rows.lazy()], how="diagonal")
        self._dropped += int(rows["dropped_before"].sum() or 0)
        if int(rows["attempt"][-1]) not in self._attempts:
            self._attempts = dict(attempts_in(rows.lazy())) | self._attempts
        self._recent = newest_rows(self._recent, rows)
        self._last = last
        self.rows += rows.height
        if self._not_in_history is None:
            self._history = self._history.with_rows(rows)
            self._places = self._places.with_rows(rows) if self._charted else self._places
            self._pinned = self._pinned.with_rows(rows) if self._pinned.names else self._pinned
        else:
            self._not_in_history.append(rows)
        if self._not_judged is None:
            self._advance(rows)
        else:
            self._not_judged.append(rows)
        detail = self._detail
        if detail is not None and detail.last is None:
            self._detail = Detail(detail.metric, detail.first, None, detail.history.with_rows(rows))

    # ------------------------------------------------------------------ work in steps

    def work(self) -> bool:
        """Read or judge a part of the rows from the start; check the files of a run that has ended."""
        if self._work is not None:
            if next(self._work, self) is self:
                self._work = None
            return True
        if self.status not in (*GOING_ON, "gone") and not self._is_checked:
            self.check()
            return True
        return False

    def _catch_up(
        self, rows: pl.LazyFrame, every_row: pl.LazyFrame, steps: Generator[int, None, Judgement] | None
    ) -> Iterator[None]:
        """Read the course of the metrics, then judge the rows, or take the judgement on them, in steps."""
        history = history_of(rows.collect() if self.rows < MANY_ROWS else rows, self._charted)
        self._numbering.extend(Numbering.of(rows))
        self._dropped += dropped_in(every_row)
        self._attempts |= dict(attempts_in(rows))
        self._history = with_frames(history, self._not_in_history or [])
        if self._charted:
            self._places = reduce(Places.with_rows, self._not_in_history or [], Places.of(rows, every_row))
        self.rows = self._history.rows
        self._not_in_history = None
        if self._wish is not None:
            self.read_detail(self._wish.metric, self._wish.first, self._wish.last)
            self._wish = None
        if self._pinned.names:
            self.read_pinned(self._pinned.names)
        yield
        if steps is not None:
            self._judgement = yield from self._noting(steps)
            self._not_judged = None
            return
        for batch in chosen(rows, self._judge.columns).collect_batches(chunk_size=JUDGED_AT_ONCE, maintain_order=True):
            self._advance(batch)
            yield
        while self._not_judged:
            self._advance(self._not_judged.pop(0))
            yield
        self._not_judged = None

    @property
    def _judge(self) -> Judge:
        """The judge, which is made when it is needed: the judgement on a finished run may be one that was kept."""
        if self._judge_made is None:
            self._judge_made = self.run.judge()
        return self._judge_made

    def _noting(self, steps: Generator[int, None, Judgement]) -> Generator[None, None, Judgement]:
        """Note how many rows are judged after each step."""
        while True:
            try:
                self._judged = next(steps)
            except StopIteration as stop:
                made: Judgement = stop.value
                self._judged = made.rows
                return made
            yield

    def _advance(self, rows: pl.DataFrame) -> None:
        """Judge rows that follow those judged so far, and report the alerts that they raise."""
        begun = self._judge.advance(rows)
        self._judged = self._judge.rows
        if self._on_alert is None or (self._judge.last_update < self._news_from and not self._again):
            self._log.add(begun)  # nobody is told of rows that were there before
            return
        raised = self._log.tell(begun)
        if self._numbering.steps >= MIN_STEPS:  # with fewer, a gap may be the stride
            gaps, stride = self._numbering.missing, self._numbering.stride
            limits = (self._gaps_told_to, self._judge.last_update)
            ends = [bisect_left(gaps, update, key=lambda gap: gap[1]) for update in limits]
            raised += [gap_alert(gaps, at, stride) for at in range(*ends)]
            self._gaps_told_to = self._judge.last_update
        for alert in sorted(raised, key=lambda alert: alert.update):
            if self._is_news(alert.update):
                self._on_alert(replace(alert, rank=self.rank))

    def _is_news(self, update: int) -> bool:
        """Whether to report an alert raised at an update: its row arrived after the start."""
        return update >= self._news_from or update in self._again

    # ------------------------------------------------------------------ result

    @property
    def remarks(self) -> list[str]:
        """Remarks on the numbering of the updates."""
        return self._numbering.remarks

    def verdict(self) -> Verdict | None:
        """Return the verdict now; None while rows are still to be judged."""
        if self._not_judged is not None:
            return None
        if self._judgement is not None:
            return self._judgement.verdict
        dropped = max(self._dropped, self._dropped_by_attempts)
        remarks = [*self.run.remarks, *self.remarks]
        known = (self._numbering.stride, self.run.value_clip, self.run.is_goal_published)
        return conclude(self._judge, RunFacts(self._numbering.missing, dropped, self.damage, remarks, *known))

    def alerts(self) -> list[Alert]:
        """Return what has been found in the rows judged so far: one alert for each rule, as in the report."""
        if self._judgement is not None:
            return self._judgement.alerts
        return self._log.alerts(self._judge.in_force.values(), self._numbering.missing, self._numbering.stride)

    def picture(self) -> Picture:
        """Return the state now; it has a verdict once all rows have been judged."""
        return Picture(
            status=self.status,
            ending=self.ending,
            rows=self.rows,
            total=self.rows,
            recent=self._recent,
            history=self._history,
            pinned=self._pinned,
            places=self._places,
            events=events_of(self.alerts(), self._attempts.items()),
            gaps=tuple(self._numbering.missing[-MAX_EVENTS:]),
            verdict=self.verdict(),
            judged=self._judged,
            damage=self.damage,
            detail=self._detail,
            row=self._row,
            thresholds=self.run.settings.thresholds,
        )


def _sealed_part(index: SegmentIndex) -> tuple[SegmentIndex, int]:
    """Return the sealed segments before the first active one, and the number of the first segment to follow."""
    active = [piece.number for piece in index.pieces if piece.frame is not None]
    start = min(active, default=index.next_active)
    return replace(index, pieces=[piece for piece in index.pieces if piece.number < start]), start
