"""Following a run while it is written: each refresh takes in what is new, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from esper_analyzer.alerts import Alert, Episode, gap_alerts
from esper_analyzer.run import Run, Status
from esper_analyzer.segment_index import SegmentIndex, to_frame
from esper_analyzer.verdict import Verdict
from esper_analyzer.view import View
from esper_schemas.segments import RankFollower


class LiveRun:
    """One rank of a run and a `View` of it that `refresh` brings up to date.

    What is sealed already is read once, lazily. Rows of a new attempt that go back behind the newest update
    retire what they supersede: the view is then built anew from the run.

    Attributes:
        run: the run.
        rank: number of the rank.
        view: its state.
        damage: number of faults that are damage.
        raised: alerts that the rows of the last refresh raised, in order of their updates.
    """

    def __init__(self, run: Run, rank: int = 0) -> None:
        self.run = run
        self.rank = rank
        index = run.index(rank, verify=True)
        active = [piece.number for piece in index.pieces if piece.path is None]
        start = min(active, default=index.next_active)
        sealed = SegmentIndex(pieces=[piece for piece in index.pieces if piece.number < start])
        self.damage = sum(fault.is_damage for fault in index.faults)
        self.raised: list[Alert] = []
        self._last_seq = sealed.pieces[-1].last_seq if sealed.pieces else -1
        self._begin(sealed)
        self._follower = RankFollower(run.directory.rank(rank), start)

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
            OSError: a file exists and cannot be read.
            FormatVersionError: a segment was written by a newer Esper.
        """
        self.raised = []
        frames = [to_frame(batch) for batch in self._follower.poll() if batch.num_rows]
        if not frames:
            return pl.DataFrame()
        rows = pl.concat(frames, how="diagonal")
        self._last_seq = int(rows["seq"][-1])
        updates = rows["update"]
        last = self.view.last_update
        rises = (last is None or updates[0] > last) and bool((updates.diff().drop_nulls() > 0).all())
        episodes = self.view.add(rows.lazy()) if rises else self._begin(self.run.index(self.rank))
        self.raised = self._alerts_at(set(updates.to_list()), episodes)
        return rows

    def _begin(self, index: SegmentIndex) -> list[Episode]:
        """Make the view from the rows so far, and return what they raise."""
        so_far = pl.col("seq") <= self._last_seq
        self.view = View(self.run.settings)
        episodes = self.view.add(self.run.updates_of([index]).filter(so_far))
        every = self.run.updates_of([index], all_attempts=True).filter(so_far)
        self.view.dropped = int(every.select(pl.col("dropped_before").sum()).collect().item() or 0)
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
        """Look at the run's files again for damage; for when it has ended, or now and then."""
        self.damage = sum(fault.is_damage for fault in self.run.faults(self.rank))
