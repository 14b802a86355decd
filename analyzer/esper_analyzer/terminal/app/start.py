"""Start the screen of `tail` or `replay` and, when it ends, pass on its errors, signals and damages."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from esper_analyzer.drawing.style import Style
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import Picture
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.replay_app import ReplayApp
from esper_analyzer.terminal.scene import Chosen, Scene
from esper_schemas.run.store import Place

Leave = Callable[[Scene, Picture], object]


def run_app(
    run: JudgedRun,
    rank: int | None,
    *,
    interval: float = 0.25,
    on_alert: Callable[[Alert], object] | None = None,
    is_new: bool = False,
    leave: Leave | None = None,
    root: Place | None = None,
    others: Sequence[JudgedRun] = (),
    chosen: Chosen | None = None,
) -> int:
    """Show a run until the user quits. Return the number of faults that are damage.

    Args:
        run: the run to show first.
        rank: the rank to show and judge; None shows the first and judges all.
        interval: seconds between looks at the run.
        on_alert: called in another thread with each alert of the judged ranks raised from now on, including missing
            updates, also while the screen shows another run.
        is_new: whether the run began after the caller; then `on_alert` gets all its alerts.
        leave: called after the screen closes with what it showed, and the newest picture of the run.
        root: folder of the runs that can be chosen; by default, and if the run is not in it, the run's own folder.
        others: runs to draw over it in the chart.
        chosen: what to show first.

    Raises:
        OSError, EsperError, PolarsError, PanicException: the error that ended the reading.
        KeyboardInterrupt: Ctrl-C was pressed.
        SystemExit: SIGTERM or SIGHUP arrived, or the terminal is gone.
    """
    style = Style.of(sys.stdout)
    app = EsperApp(
        run, rank, style=style, interval=interval, on_alert=on_alert, is_new=is_new, root=root, others=others,
        chosen=chosen,
    )  # fmt: skip
    return _show(app, run, leave)


def run_replay(
    run: JudgedRun,
    rank: int,
    *,
    speed: float | None = None,
    leave: Leave | None = None,
    root: Place | None = None,
) -> int:
    """Show a run from its beginning, with a time line, until the user quits. Return the number of damages.

    Args:
        run, rank: what to show first.
        speed: how many times faster than recorded; 0 means as fast as possible, None takes 25 seconds.
        leave, root: as in `run_app`.

    Raises:
        As `run_app`.
    """
    return _show(ReplayApp(run, rank, style=Style.of(sys.stdout), speed=speed, root=root), run, leave)


@contextmanager
def _true_size() -> Iterator[None]:
    """Hide COLUMNS and LINES, because Textual would use them even after the terminal is resized."""
    hidden = {name: os.environ.pop(name) for name in ("COLUMNS", "LINES") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _show(app: EsperApp, run: JudgedRun, leave: Leave | None) -> int:
    """Show the application until it ends. Return the damages of `run`, or 0 if another run is on the screen."""
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
        leave(app.scene, last)
    return last.damage if app.scene.run is run else 0
