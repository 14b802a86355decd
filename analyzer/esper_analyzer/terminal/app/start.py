"""Showing the screen: from a run to the end of the screen, with the errors and exit codes of a command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from esper_analyzer.drawing.style import Style
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import Picture
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.replay_app import ReplayApp

Leave = Callable[[JudgedRun, int, Picture], object]


def run_app(
    run: JudgedRun,
    rank: int,
    *,
    interval: float = 0.25,
    on_alert: Callable[[Alert], object] | None = None,
    is_new: bool = False,
    leave: Leave | None = None,
) -> int:
    """Show a run until the user leaves; returns the number of faults that are damage.

    Args:
        run, rank: what to show first.
        interval: seconds between looks at the run.
        on_alert: told, in another thread, of each alert of this rank that is raised from now on, missing updates
            included, also while another run is looked at.
        is_new: whether the run began after the caller did, so that all its alerts count.
        leave: told of the run, the rank and the picture that were on the screen at the end, once it is closed.

    Raises:
        OSError, EsperError, PolarsError, PanicException: what ended the reading.
        KeyboardInterrupt: Ctrl-C was pressed.
        SystemExit: SIGTERM came, or SIGHUP, or the terminal is gone.
    """
    app = EsperApp(run, rank, style=Style.of(sys.stdout), interval=interval, on_alert=on_alert, is_new=is_new)
    return _show(app, run, leave)


def run_replay(run: JudgedRun, rank: int, *, speed: float | None = None, leave: Leave | None = None) -> int:
    """Show a run from its beginning, with a time line, until the user leaves; returns the number of damages.

    Args:
        run, rank: what to show first.
        speed: how many times faster than recorded; 0 as fast as possible, None so that it takes 25 seconds.
        leave: as in `run_app`.

    Raises:
        As `run_app`.
    """
    return _show(ReplayApp(run, rank, style=Style.of(sys.stdout), speed=speed), run, leave)


@contextmanager
def _true_size() -> Iterator[None]:
    """Without COLUMNS and LINES, which Textual would believe for ever, however the terminal is resized."""
    said = {name: os.environ.pop(name) for name in ("COLUMNS", "LINES") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(said)


def _show(app: EsperApp, run: JudgedRun, leave: Leave | None) -> int:
    """Show it until it ends; the number of damages of `run`, as far as that is what is on the screen."""
    with _true_size():
        app.run()
    if app.error is not None:
        raise app.error
    if app.signal is signal.SIGINT:
        raise KeyboardInterrupt
    if app.signal is not None:
        raise SystemExit(128 + app.signal)
    last = app.last_picture()
    if leave is not None:
        leave(app.scene.run, app.scene.rank, last)
    return last.damage if app.scene.run is run else 0
