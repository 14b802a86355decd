"""A command looks at a run once: one examination, one judgement of each row, and nothing of it is done again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pytest
from tests.analyzer.app_driver import settle
from tests.analyzer.black_box_runs import blown_up
from textual.pilot import Pilot

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.judging.judge import Judge
from esper_analyzer.live.picture import CHARTED
from esper_analyzer.measuring.history import History
from esper_analyzer.reading import black_boxes as reading
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.terminal.app.replay_app import ReplayApp
from esper_analyzer.terminal.app.start import _show
from esper_recorder import Recorder
from esper_schemas.examining import black_boxes as of_black_boxes
from esper_schemas.examining import rank as examining
from esper_schemas.examining.segment import CheckedFooters, Depth, Recording, SegmentExamination, examine_segment
from esper_schemas.run.storage import Storage
from esper_schemas.segment import black_box, sealed

Record = Callable[..., Path]
Command = Callable[..., Any]

ROWS = 60


class Counts:
    """What was examined and judged.

    Attributes:
        segments: how often each segment was examined, by the path of its folder, its number and the depth.
        rows: number of rows that were judged.
    """

    def __init__(self) -> None:
        self.segments: Counter[tuple[str, int, Depth]] = Counter()
        self.rows = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Counts from now on."""
    made = Counts()
    advance = Judge.advance

    def _examine(
        storage: Storage, rank: int, number: int, recording: Recording, depth: Depth, footers: CheckedFooters | None
    ) -> SegmentExamination | None:
        made.segments[storage.where(), number, depth] += 1
        return examine_segment(storage, rank, number, recording, depth, footers)

    def _advance(judge: Judge, rows: pl.DataFrame) -> Any:
        made.rows += rows.height
        return advance(judge, rows)

    monkeypatch.setattr(examining, "examine_segment", _examine)
    monkeypatch.setattr(Judge, "advance", _advance)
    return made


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two ranks, each rank of 60 rows in six segments; for copying."""
    root = tmp_path_factory.mktemp("recorded")
    for name in ("a", "b"):
        for rank in (0, 1):
            with Recorder.open(root, run_id=name, segment_rows=10, rank=rank, world_size=2, resume="allow") as recorder:
                for update in range(ROWS):
                    recorder.record(update=update, env_steps=update, policy_loss=-0.01, value_loss=0.5)
    return root


@pytest.fixture
def runs(recorded: Path, tmp_path: Path) -> list[Path]:
    """The two runs, in a folder of the test's own."""
    shutil.copytree(recorded, tmp_path / "runs")
    return [tmp_path / "runs" / name for name in ("a", "b")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "runs_read", "ranks", "depth"),
    [
        (["report", "--run", "a"], 1, 2, "checksums"),
        (["report", "--run", "a", "--rank", "1"], 1, 1, "checksums"),
        (["report", "--run", "a", "--rank", "all"], 1, 2, "checksums"),
        *((["report", "--run", "a", "--format", form], 1, 2, "checksums") for form in ("json", "markdown", "html")),
        (["report", "--run", "a", "--rank", "all", "--format", "html"], 1, 2, "checksums"),
        (["check", "--run", "a", "--gate", "kl_divergence,value_loss"], 1, 2, "checksums"),
        (["check", "--run", "a", "--rank", "1", "--gate", "value_loss"], 1, 1, "checksums"),
        (["check", "--run", "a", "--rank", "all", "--gate", "value_loss"], 1, 2, "checksums"),
        (["compare", "a", "b", "--no-group"], 2, 2, "checksums"),
        (["compare", "a", "b", "--no-group", "--rank", "1"], 2, 1, "checksums"),
        (["explain", "--run", "a"], 1, 2, "checksums"),
        (["explain", "--run", "a", "--rank", "1"], 1, 1, "checksums"),
        (["explain", "--run", "a", "--update", "30"], 1, 2, "checksums"),
        (["explain", "a", "b", "--rank", "1"], 2, 1, "checksums"),
        (["tail", "--run", "a", "--once"], 1, 2, "checksums"),
        (["tail", "--run", "a", "--once", "--rank", "1"], 1, 1, "checksums"),
        (["tail", "--run", "a"], 1, 2, "checksums"),
        (["replay", "--run", "a"], 1, 1, "checksums"),
        (["runs"], 2, 2, "records"),
        (["runs", "--verify"], 2, 2, "checksums"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_command_looks_once(
    command: Command,
    runs: list[Path],
    counts: Counts,
    arguments: list[str],
    runs_read: int,
    ranks: int,
    depth: Depth,
) -> None:
    """Each segment is examined once, at one depth, and no row is judged twice."""
    done = command(*arguments, "--root", runs[0].parent)
    assert "Traceback" not in done.stderr
    assert set(counts.segments.values()) == {1}
    assert {of for _, _, of in counts.segments} == {depth}
    assert len(counts.segments) == runs_read * ranks * (ROWS // 10)
    judges_nothing = arguments[0] == "replay" or "--update" in arguments or arguments[:2] == ["explain", "a"]
    assert counts.rows == (0 if judges_nothing else runs_read * ranks * ROWS)


@pytest.mark.parametrize("form", ["text", "json", "html", "markdown"])
def test_a_black_box_is_read_once(command: Command, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report shows minibatches that the examination read; the page, which also explains, needs the rows again."""
    read: list[str] = []
    of_disk = black_box.read_black_box

    def _read(rank: Storage, name: str) -> black_box.BlackBox:
        read.append(name)
        return of_disk(rank, name)

    for module in (black_box, of_black_boxes, reading):
        monkeypatch.setattr(module, "read_black_box", _read)
    assert command("report", "--run", blown_up(tmp_path), "--format", form).returncode == 0
    assert (sorted(set(read)) if form == "html" else read) == ["00000003", "00000005"]


@pytest.mark.parametrize(
    ("arguments", "histories"),
    [
        (["runs"], set()),
        (["tail", "--run", "a"], {()}),
        (["tail", "--run", "a", "--once"], {CHARTED, ("steps", "time"), ()}),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_only_what_is_drawn_is_read(
    command: Command,
    runs: list[Path],
    arguments: list[str],
    histories: set[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The course of the metrics is read where there is a chart; a list, lines in a pipe, other ranks need none."""
    read: set[tuple[str, ...]] = set()
    with_rows = History.with_rows

    def _with_rows(history: History, rows: pl.LazyFrame | pl.DataFrame) -> History:
        read.add(history.names)
        return with_rows(history, rows)

    monkeypatch.setattr(History, "with_rows", _with_rows)
    assert command(*arguments, "--root", runs[0].parent).returncode == 0
    assert read == histories


def test_a_footer_is_read_once(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a run are asked for again and again; a sealed file is bounded once, and again when it changed."""
    asked: list[str] = []
    bounded = sealed.open_parquet

    def _open(file: BinaryIO, size: int, where: str) -> Any:
        asked.append(where)
        return bounded(file, size, where)

    monkeypatch.setattr(sealed, "open_parquet", _open)
    run = open_run(runs[0])
    for _ in range(2):
        assert run.updates().collect().height == 2 * ROWS
    assert len(asked) == len(set(asked)) == 2 * ROWS // 10
    asked.clear()
    changed = sorted((runs[0] / "rank-0000" / "segments").iterdir())[0]
    changed.write_bytes(changed.read_bytes())
    assert open_run(runs[0]).updates().collect().height == 2 * ROWS
    assert asked == [str(changed)]


@pytest.mark.parametrize("app", [EsperApp, ReplayApp])
@pytest.mark.parametrize("is_early", [False, True], ids=["judged", "before it was judged"])
def test_leaving_the_screen_reads_nothing_again(
    runs: list[Path],
    counts: Counts,
    app: type[EsperApp],
    is_early: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What stays in the terminal is drawn from what the screen knew: one look, and each row judged once."""
    from esper_analyzer.terminal import tail

    async def steps(pilot: Pilot[Any]) -> None:
        if not is_early:
            shown = pilot.app
            assert isinstance(shown, EsperApp)
            await settle(shown, pilot)
        await pilot.press("q")

    run = open_run(runs[0])
    shown = app(run, 0, style=Style(color=False, unicode=True))
    whole = shown.run
    monkeypatch.setattr(shown, "run", lambda: whole(headless=True, auto_pilot=steps))
    _show(shown, run, tail._leave)
    out = capsys.readouterr().out
    assert "● finished" in out
    assert f"update {ROWS - 1} " in out
    assert "Verdict  " in out
    assert set(counts.segments.values()) == {1}
    if not isinstance(shown, ReplayApp):  # a replay asks a copy of the judge for the verdict at each moment
        assert counts.rows == ROWS
