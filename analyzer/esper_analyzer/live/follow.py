"""Following a run while it is written: each refresh takes in what is new, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from esper_analyzer.judging.alerts import Alert, Episode, gap_alerts
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.live.view import View
from esper_analyzer.reading.run_index import RunIndex, dropped_in, every_row_of, rows_of
from esper_analyzer.reading.run_reader import GOING_ON, Status
from esper_analyzer.reading.segment_index import SegmentIndex, to_frame
from esper_schemas.errors import FormatVersionError, RunDamagedError


class LiveRun:
    """One rank of a run and a `View` of it that `refresh` brings up to date.

    What is sealed already is read once, lazily. Rows of a new attempt that go back behind the newest update
    retire what they supersede: the view is then built anew from the run.

    Attributes:
        run: the run.
        rank: number of the rank.
        view: its state.
        damage: number of faults of the rank, or of the run as a whole, that are damage.
        raised: alerts that the rows of the last refresh raised, in order of their updates.
    """

    def __init__(self, run: JudgedRun, rank: int = 0, index: RunIndex | None = None) -> None:
        """`index` is what was found when the run was looked at just before; else it is looked at now."""
        self.run = run
        self.rank = rank
        self._is_checked = index is None and run.status(rank) not in GOING_ON  # no more can come that is to be checked
        found = index or run.look(rank)
        sealed, start = sealed_part(found.rank(rank))
        self.damage = found.damage_of(rank)
        self.raised: list[Alert] = []
        self._last_seq = sealed.pieces[-1].last_seq if sealed.pieces else -1
        self._earlier: pl.LazyFrame | None = None
        self._refreshes = 0
        self._begin(sealed)
        self._follower = found.follower(run.directory, rank, start)

    def close(self) -> None:
        """Close the file that is being followed."""
        self._follower.close()

    def status(self) -> Status:
        """State of the rank now."""
        return self.run.status(self.rank)

    def refresh(self) -> pl.DataFrame:
        """Take in the rows that are new, and return them (all columns); empty if there are none.

        `raised` then holds what these rows raised; what older rows had raised is not in it again.

        Raises:
            FormatVersionError: a segment was written by a newer Esper.
        """
        self.raised = []
        self._refreshes += 1
        if self._refreshes > 1:
            self._earlier = None
        rows = self._poll()
        if not rows.height:
            return rows
        self._is_checked = False
        self._last_seq = int(rows["seq"][-1])
        updates = rows["update"]
        last = self.view.last_update
        rises = (last is None or updates[0] > last) and bool((updates.diff().drop_nulls() > 0).all())
        if rises:
            episodes = self.view.add(rows.lazy())
            if self._earlier is not None:
                self._earlier = pl.concat([self._earlier, rows.lazy()], how="diagonal")
        else:
            episodes = self._begin(self.run.look(self.rank, "records").rank(self.rank))
        self.raised = self._alerts_at(set(updates.to_list()), episodes)
        return rows

    def take_earlier(self) -> pl.LazyFrame:
        """All rows up to those of the first refresh, in order of updates; to be asked for once, before the second one.

        The files of the sealed ones are open as long as the frame lives.
        """
        earlier, self._earlier = self._earlier, None
        assert earlier is not None
        return earlier

    def _poll(self) -> pl.DataFrame:
        """What is new; nothing where a file cannot be read, which is damage."""
        try:
            frames = [to_frame(batch) for batch in self._follower.poll() if batch.num_rows]
        except FormatVersionError:
            raise
        except (OSError, RunDamagedError):
            self.damage = max(self.damage, 1)
            return pl.DataFrame()
        return pl.concat(frames, how="diagonal") if frames else pl.DataFrame()

    def _begin(self, index: SegmentIndex) -> list[Episode]:
        """Make the view from the rows so far, and return what they raise."""
        rows = rows_of(index)
        so_far = pl.col("seq") <= self._last_seq
        if self._refreshes <= 1:
            self._earlier = rows.filter(so_far)
        self.view = View(self.run.settings)
        episodes = self.view.add(rows.filter(so_far))
        self.view.dropped = dropped_in(every_row_of(index, rows).filter(so_far))
        return episodes

    def _alerts_at(self, updates: set[int], episodes: Sequence[Episode]) -> list[Alert]:
        """The alerts that were raised at one of these updates: a view that was built anew has raised older ones too."""
        gaps = [gap for gap in self.view.missing if gap[1] + 1 in updates]
        alerts = [*gap_alerts(gaps), *(episode.alert() for episode in episodes if episode.update in updates)]
        return sorted(alerts, key=lambda alert: alert.update)

    def verdict(self) -> Verdict:
        """The verdict now, which counts the damage and the drops that only the run's files know of."""
        dropped = self.run.dropped_by_attempts(self.rank)
        return self.view.verdict(dropped=dropped, damage=self.damage, remarks=self.run.remarks)

    def check(self) -> None:
        """Look at the run's files again for damage, for when it has ended; not if nothing came since the last look."""
        if not self._is_checked:
            self.damage = self.run.look(self.rank).damage_of(self.rank)
            self._is_checked = True


def sealed_part(index: SegmentIndex) -> tuple[SegmentIndex, int]:
    """The sealed segments before the first one that is still active, and the number from which on to follow."""
    active = [piece.number for piece in index.pieces if piece.frame is not None]
    start = min(active, default=index.next_active)
    return replace(index, pieces=[piece for piece in index.pieces if piece.number < start]), start
