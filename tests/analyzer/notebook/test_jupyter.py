"""A run in a notebook: its display, its plots, and the display that follows it in a real kernel."""

from __future__ import annotations

import math
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import polars as pl
import pytest
from nbclient import NotebookClient
from tests.waiting import HANG_SECS

from esper_analyzer import Alert, Run, open_run
from esper_analyzer.measuring.levels import LEVEL_TYPE
from esper_analyzer.wording import count
from esper_recorder import Recorder
from esper_schemas.errors import NotARunError, UsageError

Record = Callable[..., Path]
Process = subprocess.Popen[str]

NAN, INF = math.nan, math.inf


def eventful(rows: int = 300) -> list[dict[str, Any]]:
    """A falling value loss with a spike at 100, NaN from 150 to 155, infinities at 200 and 201, 240 to 244 missing."""
    found: list[dict[str, Any]] = []
    for update in range(rows):
        loss = 10.0 * math.exp(-update / 60) * (1.0 + 0.2 * math.sin(update))
        found.append({"update": update, "value_loss": loss, "explained_variance": min(0.9, update / 100)})
    found[100]["value_loss"] = 60.0
    for update in range(150, 156):
        found[update]["value_loss"] = NAN
    found[200]["value_loss"], found[201]["value_loss"] = INF, -INF
    return found[:240] + found[245:]


def quiet(rows: int) -> list[dict[str, Any]]:
    """Updates of which there is nothing to tell."""
    return [{"update": update} for update in range(rows)]


def displayed(run: Run) -> tuple[ElementTree.Element, str]:
    """The display of a run, which is well-formed, and the text in it."""
    element = ElementTree.fromstring(run._repr_html_())
    return element, "\n".join(element.itertext())


# ---------------------------------------------------------------------- the display


def test_a_run_shows_what_its_report_says(record: Record) -> None:
    """Level, every reason, status, updates and the losses' last values are in the display, as the report has them."""
    run = open_run(record(eventful(), trainer="mine", env="CartPole-v1"))
    report = run.report()
    _, text = displayed(run)
    assert f"! {report.verdict.level}" in text
    assert "since update" not in text.split("·")[0]  # only rows are missing, which no alert in force says
    assert all(reason in text for reason in report.verdict.reasons)
    for part in ("run", "finished", "mine on CartPole-v1", "295 updates", "V.Loss", "P.Loss", "Lv/Lp", "Expl.var"):
        assert part in text
    assert repr(run) == f"<Run {run.path} finished, ranks: 0>"


def test_the_small_chart_keeps_spike_and_nan(record: Record) -> None:
    """Of 20 000 updates one spike is at the top of the line, and each value that is not finite has its mark."""
    rows = [{"update": update, "value_loss": 1.0 + update % 7 / 10} for update in range(20_000)]
    rows[7777]["value_loss"] = 123.0
    rows[5000]["value_loss"], rows[15_000]["value_loss"] = NAN, INF
    run = open_run(record(rows))
    element, text = displayed(run)
    assert "123.0" in text
    assert "× 2 not finite" in text
    titles = [title.text or "" for title in element.iter("title") if "not finite" in (title.text or "")]
    assert len(titles) == 2
    (line,) = (path.get("d", "") for path in element.iter("path") if path.get("fill") == "none")
    assert "V12.0" in line or " 12.0" in line  # the top of the chart
    assert len(run._repr_html_()) < 20_000


def test_the_line_is_broken_where_updates_have_no_finite_value(record: Record) -> None:
    """NaN, infinities and missing updates leave gaps, which no line bridges."""
    element, _ = displayed(open_run(record(eventful())))
    (line,) = (path.get("d", "") for path in element.iter("path") if path.get("fill") == "none")
    assert line.count("M") == 4


def test_hostile_names_are_text(record: Record) -> None:
    """Markup, control characters and formulas in names from the file are shown, not obeyed."""
    run = open_run(record(quiet(3), trainer="<script>alert(1)</script>", env="\u202e&amp; $x$ \"'"))
    element, text = displayed(run)
    assert not list(element.iter("script"))
    for part in ("<script>alert(1)</script>", "\\u202e&amp; $x$ \"'"):
        assert part in text
    assert "mathjax_ignore" in element.get("class", "")


def test_the_display_suits_a_light_and_a_dark_page(record: Record) -> None:
    """Text and line take the colour of the page, and there is no ground of our own."""
    html = open_run(record(eventful()))._repr_html_()
    assert "background" not in html
    assert 'stroke="currentColor"' in html
    assert 'font-size="11" fill="currentColor"' in html


@pytest.mark.slow
@pytest.mark.parametrize(
    "losses",
    [[], [0.5], [NAN] * 3, [1e308, -1e308, 0.0], [0.0] * 30, [None, 1.0, None], [5e-324, 1.0]],
    ids=["none", "one", "nan", "huge", "constant", "skipped", "tiny"],
)
@pytest.mark.parametrize("log", [None, True, False])
def test_odd_runs_are_shown_and_plotted(record: Record, losses: list[float | None], log: bool | None) -> None:
    """Whatever the values are, there is a display with the verdict and a picture, without a warning."""
    rows = [
        {"update": update, "value_loss": loss} if loss is not None else {"update": update, **SKIPPED}
        for update, loss in enumerate(losses)
    ]
    run = open_run(record(rows))
    _, text = displayed(run)
    assert run.report().verdict.level in text
    run.plot("value_loss", log=log).savefig("/dev/null", format="png")


SKIPPED = {"value_loss": None, "policy_loss": None, "skipped": True, "skip_reason": 1}


def test_since_when_is_in_the_display(record: Record) -> None:
    """Beside the level stands the first update of the oldest alert that gives it, as in the report."""
    rows = [{"update": update, "value_loss": 0.5 if update < 15 else NAN} for update in range(30)]
    _, text = displayed(open_run(record(rows)))
    assert text.startswith("✗ critical\n since update 15 ·")


def test_a_damaged_run_is_one_line_or_more_and_no_traceback(record: Record) -> None:
    """A sealed segment that cannot be read does not take the display with it, and no plot draws it."""
    run = open_run(record([{"update": update} for update in range(90)], segment_rows=30))
    segment = Path(run.path) / "rank-0000" / "segments" / "00000001.parquet"
    content = bytearray(segment.read_bytes())
    content[100:-4000] = bytes(len(content) - 4100)
    segment.write_bytes(content)
    assert str(run.path.name) in run._repr_html_()
    panel: Any = run.plot("value_loss").axes[0]
    assert not {float(update) for update in panel.lines[0].get_xdata()} & set(range(31, 60))


def test_a_run_that_is_gone_does_not_raise(record: Record) -> None:
    """The display of a run whose folder was removed in the meantime is no traceback."""
    run = open_run(record(quiet(3)))
    shutil.rmtree(Path(run.path))
    assert str(run.path.name) in run._repr_html_()


# ---------------------------------------------------------------------- frames


def test_histories_are_those_of_the_report(record: Record) -> None:
    """With 10 values they are the report's; with more, the older ones stand before them."""
    run = open_run(record(eventful()))
    report = {name: metric.history for name, metric in run.report().metrics.items()}
    assert run.histories() == report
    assert run.histories(12)["value_loss"][2:] == report["value_loss"]
    with pytest.raises(UsageError, match="at least 1"):
        run.histories(0)


def test_alerts_are_those_of_the_report_and_typed(record: Record) -> None:
    """Each alert is a row; a run without alerts has the same columns of the same types."""
    some, none = open_run(record(eventful(), name="some")), open_run(record(quiet(3), name="none"))
    expected = [astuple(alert) for alert in some.report().alerts]
    frame = some.alerts()
    assert len(expected) > 2
    assert frame.columns == [one.name for one in fields(Alert)]
    assert list(map(repr, frame.rows())) == list(map(repr, expected))  # a NaN is no equal of itself
    assert none.alerts().is_empty()
    assert none.alerts().schema == frame.schema
    assert frame.schema["level"] == LEVEL_TYPE
    assert frame.schema["until"] == pl.Int64
    assert frame["rank"].unique().to_list() == [0]


# ---------------------------------------------------------------------- plots


def test_a_plot_has_a_panel_for_each_metric(record: Record) -> None:
    """The metrics that were asked for, in their order; without any, the main ones that were measured."""
    run = open_run(record([{**row, "a$b<i>^": 1.0} for row in eventful()]))
    assert [panel.get_ylabel() for panel in run.plot().axes] == ["value_loss", "explained_variance"]
    asked = run.plot("a$b<i>^", "loss_ratio")
    assert [panel.get_ylabel() for panel in asked.axes] == ["a$b<i>^", "loss_ratio"]
    asked.savefig("/dev/null", format="png")


def test_a_plot_marks_what_is_not_finite_and_each_alert(record: Record) -> None:
    """NaN and infinities stand at their updates, and a line at the update of each alert on the metric."""
    run = open_run(record(eventful()))
    panel: Any = run.plot("value_loss").axes[0]
    marks = {str(mark.get_label()): [x for x, _ in mark.get_offsets()] for mark in panel.collections[1::2]}
    marks = {label: xs for label, xs in marks.items() if "update" in label}
    assert marks == {"NaN, 6 updates": [150, 155], "+∞, 1 update": [200, 200], "−∞, 1 update": [201, 201]}
    upright = {line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 2}
    about = run.alerts().filter(pl.col("metric").is_in(["value_loss", "value_loss_spike", "update"]))
    assert set(about["first"]) <= upright
    assert panel.get_yscale() == "log"
    assert run.plot("value_loss", log=False).axes[0].get_yscale() == "linear"
    assert run.plot("policy_loss", log=True).axes[0].get_yscale() == "symlog"


def test_a_plot_of_a_long_run_keeps_its_extremes(record: Record) -> None:
    """Spikes up and down in 20 000 updates are points of the line."""
    rows = [{"update": update, "value_loss": 1.0 + update % 7 / 10} for update in range(20_000)]
    rows[7777]["value_loss"], rows[7778]["value_loss"] = 123.0, 0.01
    panel: Any = open_run(record(rows)).plot("value_loss").axes[0]
    points = set(zip(*map(list, panel.lines[0].get_data()), strict=True))
    assert {(7777, 123.0), (7778, 0.01)} <= points
    assert len(points) <= 4000


def test_a_metric_that_is_not_there_is_named(record: Record) -> None:
    """A misspelled metric, one that is no number, and a rank that is not there are each one line."""
    run = open_run(record(quiet(3)))
    with pytest.raises(UsageError, match="'value_los' to plot; did you mean value_loss"):
        run.plot("value_los")
    with pytest.raises(UsageError, match="'wall_time' to plot"):
        run.plot("wall_time")
    with pytest.raises(NotARunError, match="no rank 3"):
        run.plot(rank=3)


def test_without_matplotlib_the_extra_is_named(record: Record, run_python: Callable[..., Any]) -> None:
    """The display needs nothing; a plot says in one line what to install."""
    script = """
import sys
sys.modules["matplotlib"] = sys.modules["IPython"] = None
from esper_analyzer import open_run
run = open_run(sys.argv[1])
assert "V.Loss" in run._repr_html_()
try:
    run.plot()
except ValueError as error:
    print(error)
"""
    done = run_python(script, record(quiet(3)))
    assert done.stdout == "plots need matplotlib; install it with pip install matplotlib\n"


# ---------------------------------------------------------------------- following


INTERRUPT = """
sleep = time.sleep
def interrupt(secs):  # the watch has drawn the run, and waits
    if threading.current_thread() is threading.main_thread():
        time.sleep = sleep
        os.kill(os.getpid(), signal.SIGINT)
    sleep(secs)
time.sleep = interrupt
run.watch(0.05)
"""


@contextmanager
def recording(process: Process, until: Path) -> Iterator[None]:
    """Have the child record an update every 30 ms until the file is there, and then end."""
    assert process.stdin is not None
    stdin = process.stdin
    stop = threading.Event()

    def feed() -> None:
        update = 0
        while not until.exists() and not stop.is_set():
            stdin.write(f"{update}\n")
            stdin.flush()
            time.sleep(0.03)
            update += 1
        stdin.close()

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter packages, not ours
def test_a_cell_follows_a_run(writer: Callable[..., Process], tmp_path: Path) -> None:
    """One display is redrawn in place: until so many updates, until an interrupt, until the run ends."""
    enough = tmp_path / "enough"
    cells = (
        "import os, signal, threading, time\nfrom pathlib import Path\nfrom esper_analyzer import open_run",
        "run = open_run('run')",
        "run.watch(0.05, updates=3)",
        INTERRUPT,
        "threading.Timer(0.3, Path('enough').touch).start()\nrun.watch(0.05)",
    )
    book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))  # type: ignore[no-untyped-call]
    with recording(writer(), enough):
        NotebookClient(book, timeout=round(HANG_SECS), resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.outputs for cell in book.cells[2:]]
    assert [len(outputs) for outputs in shown] == [1, 1, 1]
    texts = ["\n".join(ElementTree.fromstring(outputs[0].data["text/html"]).itertext()) for outputs in shown]
    assert all("live" in text and "No longer watching" in text for text in texts[:2])
    assert "finished" in texts[2]
    assert "atched" not in texts[2]
    rows = open_run("run", tmp_path / "runs").updates().collect().height
    assert f"{count(rows)} updates, the newest is {rows - 1}" in texts[2]
    assert shown[2][0].data["text/plain"].startswith(f"run: finished, {rows} updates, verdict ")


def test_outside_a_notebook_lines_are_printed(
    writer: Callable[..., Process], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each new update as it comes, and one on the whole run at the beginning and at the end."""
    enough = tmp_path / "enough"
    with recording(writer(), enough):
        run = open_run("run", tmp_path / "runs")
        run.watch(0.05, updates=5)
        first = capsys.readouterr().out.splitlines()
        threading.Timer(0.2, enough.touch).start()
        run.watch(0.05)
    second = capsys.readouterr().out.splitlines()
    assert first[0].startswith("run: live, ")
    assert sum(line.startswith("update ") for line in first) >= 5
    assert first[-1].startswith("run: live, ")
    assert second[-1].startswith(f"run: finished, {run.updates().collect().height} updates, verdict ")


def test_a_finished_run_is_shown_once(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """Watching what has ended shows it and returns; odd intervals are refused."""
    run = open_run(record(quiet(12)))
    run.watch()
    assert capsys.readouterr().out == f"run: finished, 12 updates, verdict {run.report().verdict.level}\n"
    for options in ({"interval": 0.0}, {"interval": NAN}, {"updates": 0}):
        with pytest.raises(UsageError, match="found"):
            run.watch(**options)


def test_the_first_rank_that_is_there_is_shown(tmp_path: Path) -> None:
    """A run of which only rank 1 has written shows that one."""
    with Recorder.open(tmp_path, run_id="two", rank=1, world_size=2) as recorder:
        recorder.record(update=0, policy_loss=-0.01, value_loss=0.5)
    _, text = displayed(open_run("two", tmp_path))
    assert "1 update, the newest is 0" in text
