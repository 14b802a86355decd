"""The feed that shows one rank of a run and judges all of them: the worst rank gives the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from esper_analyzer.judging.alert_log import in_order
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import verdict_of_ranks
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.live.live import STATUS_SECS, LiveFeed
from esper_analyzer.live.picture import CHARTED, Picture
from esper_analyzer.reading.run_index import RunIndex
from esper_schemas.errors import EsperError


class RanksFeed(LiveFeed):
    """As `LiveFeed`, with the verdict and the alerts of all ranks; rows, charts and numbers are those of one.

    A rank that begins later is judged from its beginning, and all its alerts are news.
    """

    def __init__(
        self,
        run: JudgedRun,
        rank: int | None = None,
        *,
        on_alert: Callable[[Alert], object] | None = None,
        is_new: bool = False,
        charted: tuple[str, ...] = CHARTED,
        found: RunIndex | None = None,
    ) -> None:
        """Start from what the run has recorded so far.

        Args:
            run: what to follow.
            rank: the rank to show; by default the first that has recorded anything.
            on_alert, is_new, charted: as for `LiveFeed`; alerts of all ranks are told, each with its rank.
            found: the index of all ranks, if the run was examined just before; by default it is examined now.
        """
        index = found or run.look()
        shown = next(iter(index.shown("first")), 0) if rank is None else rank
        super().__init__(run, shown, on_alert=on_alert, is_new=is_new, charted=charted, found=index)
        self._others: dict[int, LiveFeed] = {}
        self._counted = time.monotonic()
        self._follow(index.ranks, is_new=is_new, found=index)

    def _add_ranks(self) -> None:
        """Look from time to time whether further ranks have begun."""
        if time.monotonic() - self._counted < STATUS_SECS:
            return
        self._counted = time.monotonic()
        with suppress(EsperError):  # the status says that the run is gone
            self._follow(self.run.ranks(), is_new=True)

    def _follow(self, ranks: Iterable[int], *, is_new: bool, found: RunIndex | None = None) -> None:
        for rank in ranks:
            if rank != self.rank and rank not in self._others:
                self._others[rank] = LiveFeed(
                    self.run, rank, on_alert=self._on_alert, is_new=is_new, charted=(), found=found
                )

    @property
    def has_ended(self) -> bool:
        """Whether no row of any rank can follow."""
        return super().has_ended and all(other.has_ended for other in self._others.values())

    def close(self) -> None:
        """Close the files that are being followed."""
        super().close()
        for other in self._others.values():
            other.close()

    def look(self) -> bool:
        """Read the new rows of all ranks; return whether the picture has changed.

        Raises:
            FormatVersionError: a segment was written by a newer Esper.
        """
        self._add_ranks()
        changed = [super().look(), *(other.look() for other in self._others.values())]
        return any(changed)

    def check(self) -> None:
        """Check the files of all ranks again, as `LiveFeed.check`."""
        super().check()
        for other in self._others.values():
            other.check()

    def work(self) -> bool:
        """Read or judge a part of the rows of one rank."""
        return super().work() or any(other.work() for other in self._others.values())

    def verdict(self) -> Verdict | None:
        """Return the verdict on all ranks; None while rows of any are still to be judged."""
        feeds = {rank: feed for rank, feed in self._by_rank().items() if feed.rows or rank == self.rank}
        verdicts: dict[int, Verdict] = {}
        for rank, feed in feeds.items():
            verdict = super().verdict() if feed is self else feed.verdict()
            if verdict is None:
                return None
            verdicts[rank] = verdict
        return verdict_of_ranks(verdicts)

    def alerts(self) -> list[Alert]:
        """Return the alerts of all ranks; each names its rank if there are several."""
        if not self._others:
            return super().alerts()
        of_ranks = {
            rank: super(RanksFeed, self).alerts() if feed is self else feed.alerts()
            for rank, feed in self._by_rank().items()
        }
        return in_order(replace(alert, rank=rank) for rank, alerts in of_ranks.items() for alert in alerts)

    def picture(self) -> Picture:
        """Return the state now; its damage is that of the worst rank."""
        picture = super().picture()
        return replace(picture, damage=max([picture.damage, *(other.damage for other in self._others.values())]))

    def _by_rank(self) -> dict[int, LiveFeed]:
        return dict(sorted({self.rank: self, **self._others}.items()))
