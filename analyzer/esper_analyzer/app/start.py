"""Showing the screen: from a run to the end of the screen, with the errors and exit codes of a command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from esper_analyzer.alerts import Alert
from esper_analyzer.app.app import EsperApp
from esper_analyzer.app.replay_app import ReplayApp
from esper_analyzer.run import Run
from esper_analyzer.style import Style


def run_app(
    run: Run,
    rank: int,
    *,
    interval: float = 0.25,
    on_alert: Callable[[Alert], object] | None = None,
    is_new: bool = False,
) -> int:
    """Show a run until the user leaves; returns the number of faults that are damage.

    Args:
        run, rank: what to show first.
        interval: seconds between looks at the run.
        on_alert: told, in another thread, of each alert of this rank that is raised from now on, missing updates
            included, also while another run is looked at.
        is_new: whether the run began after the caller did, so that all its alerts count.

    Raises:
        OSError, EsperError, PolarsError: what ended the reading.
        KeyboardInterrupt: Ctrl-C was pressed.
        SystemExit: SIGTERM came, or SIGHUP, or the terminal is gone.
    """
    app = EsperApp(run, rank, style=Style.of(sys.stdout), interval=interval, on_alert=on_alert, is_new=is_new)
    _show(app)
    return app.scene.picture.damage if app.scene.run is run else 0


def run_replay(run: Run, rank: int, *, speed: float | None = None) -> None:
    """Show a run from its beginning, with a time line, until the user leaves.

    Args:
        run, rank: what to show first.
        speed: how many times faster than recorded; 0 as fast as possible, None so that it takes 25 seconds.

    Raises:
        As `run_app`.
    """
    _show(ReplayApp(run, rank, style=Style.of(sys.stdout), speed=speed))


@contextmanager
def _true_size() -> Iterator[None]:
    """Without COLUMNS and LINES, which Textual would believe for ever, however the terminal is resized."""
    said = {name: os.environ.pop(name) for name in ("COLUMNS", "LINES") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(said)


def _show(app: EsperApp) -> None:
    with _true_size():
        app.run()
    if app.error is not None:
        raise app.error
    if app.signal is signal.SIGINT:
        raise KeyboardInterrupt
    if app.signal is not None:
        raise SystemExit(128 + app.signal)
