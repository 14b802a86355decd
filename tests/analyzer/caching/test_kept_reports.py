"""Reports from the cache folder are those that the rows give, and what changes a run changes its report."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.golden.golden import differences

from esper_analyzer import open_run, read_settings
from esper_analyzer.caching.code import code_digest
from esper_analyzer.cli import main
from esper_analyzer.reading.run_index import Ranks
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_recorder import Recorder
from esper_schemas.testing.bases import BASES, write_bases
from esper_schemas.testing.golden import NAMES, copy_run


def report(run: Path, rank: Ranks = "first", **options: Any) -> str:
    """The report of a run as JSON, however it is made."""
    return open_run(run, **options).report(rank).to_json()


def report_from_rows(run: Path, monkeypatch: pytest.MonkeyPatch, rank: Ranks = "first") -> str:
    """The same, from the rows alone."""
    with monkeypatch.context() as patch:
        patch.setenv(NO_CACHE, "1")
        return report(run, rank)


def falsify(cache: Path, change: Callable[[dict[str, Any]], object], kind: str = "report") -> None:
    """Change everything that is kept of a kind, in files that are as whole as those that were written."""
    from esper_analyzer.caching.folder import store

    for path in cache.glob(f"{kind}-*.json"):
        body = json.loads(path.read_bytes().partition(b"\n")[2])
        change(body)
        store(kind, path.stem.removeprefix(f"{kind}-"), json.dumps(body).encode())


def judged(body: dict[str, Any]) -> dict[str, Any]:
    """What is kept of the judgement on the first rank."""
    of_rank: dict[str, Any] = body["of_ranks"][0][1]
    return of_rank


def mark(body: dict[str, Any]) -> None:
    """Change a number that no rows give, so that a report shows where it comes from."""
    body["updates"]["skipped"] = 987654


def is_from_cache(cache: Path, run: Path, **options: Any) -> bool:
    """Whether the report of a run comes from the cache."""
    falsify(cache, mark)
    return "987654" in report(run, **options)


def rows(count: int) -> list[dict[str, Any]]:
    """Updates of a run that learns."""
    return [{"update": update, "value_loss": 1 / (1 + update)} for update in range(count)]


@pytest.fixture
def sound(record: Callable[..., Path]) -> Path:
    """A finished run of 30 updates in four segments."""
    return record(rows(30), segment_rows=8)


@pytest.mark.parametrize("name", NAMES)
def test_reports_of_golden_runs(name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first report, the second, and the one from the rows are the same, for every choice of ranks."""
    run = copy_run(name, tmp_path)
    is_kept = name not in ("crashed", "torn")  # these have a segment that is not sealed
    ranks: list[Ranks] = ["first", None, 1] if name == "two_ranks" else ["first"]
    for rank in ranks:
        made = [report(run, rank) for _ in range(2 if is_kept else 1)]
        assert not differences(json.loads(report_from_rows(run, monkeypatch, rank)), json.loads(made[0]))
        assert made[0] == made[-1]
    assert len(list(cache.glob("report-*"))) == (len(ranks) if is_kept else 0)
    assert len(list(cache.glob("judgement-*"))) == (len({ranks_ == 1 for ranks_ in ranks}) if is_kept else 0)
    assert not is_kept or is_from_cache(cache, run)


@pytest.mark.slow
def test_reports_of_the_bases_of_the_damages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs that damages start from have the same report from the cache, and so has each with a segment lost."""
    for name, run in write_bases(tmp_path).items():
        for is_damaged in (False, True):
            if is_damaged:
                (run / "rank-0000" / "segments" / "00000001.parquet").unlink()
            first, second = report(run), report(run)
            assert not differences(json.loads(report_from_rows(run, monkeypatch)), json.loads(first)), name
            assert first == second or name == "killed", name  # which is not kept
            assert open_run(run).report().is_damaged == is_damaged
    assert len(BASES) == 5


def test_a_report_does_not_judge_again(sound: Path, cache: Path) -> None:
    """The second report of a finished run is made of what was kept."""
    report(sound)
    assert is_from_cache(cache, sound)


def test_a_damaged_segment_is_seen(sound: Path, cache: Path) -> None:
    """A byte that was changed since, with size and time as before, is damage: the checksums are always checked."""
    report(sound)
    path = sound / "rank-0000" / "segments" / "00000001.parquet"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_from_cache(cache, sound)
    damaged = CliRunner().invoke(main, ["report", str(sound), "--format", "json"])
    assert damaged.exit_code == 3
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not open_run(sound).report().is_damaged


def test_a_run_that_was_resumed_is_judged_anew(sound: Path, cache: Path) -> None:
    """Rows that were added since are in the report; while the run goes on, nothing is kept."""
    report(sound)
    kept = set(cache.iterdir())
    with Recorder.open(sound.parent, run_id=sound.name, resume="must") as recorder:
        recorder.record(update=30, policy_loss=-0.01, value_loss=0.5)
        assert open_run(sound).report().updates.rows == 31
        assert set(cache.iterdir()) == kept
    falsify(cache, mark)
    assert open_run(sound).report().updates.rows == 31
    assert len(list(cache.iterdir())) == 2 * len(kept)


def test_a_new_attempt_without_rows_is_judged_anew(sound: Path, cache: Path) -> None:
    """Whatever is written into the folder of a run, its report is made anew."""
    report(sound)
    Recorder.open(sound.parent, run_id=sound.name, resume="must").close()
    assert not is_from_cache(cache, sound)


def test_other_settings_are_other_reports(sound: Path, cache: Path, tmp_path: Path) -> None:
    """Thresholds of the user's are part of the key, and so is what they are set to."""
    report(sound)
    for bound in ("> 0.001", "> 0.002"):
        (tmp_path / "mine.toml").write_text(f'[thresholds.value_loss]\ncritical = "{bound}"\n')
        settings = read_settings(tmp_path / "mine.toml")
        assert not is_from_cache(cache, sound, settings=settings)
        assert is_from_cache(cache, sound, settings=settings)


def test_other_code_makes_other_reports(sound: Path, cache: Path, tmp_path: Path) -> None:
    """What other code kept is not used: the key has the source of analyzer and schemas in it."""
    import subprocess
    import sys

    import esper_analyzer
    import esper_schemas

    place = tmp_path / "other"
    for package in (esper_analyzer, esper_schemas):
        name = package.__name__
        shutil.copytree(Path(package.__path__[0]), place / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = "from esper_analyzer.caching.code import code_digest; print(code_digest())"
    answers = []
    for text in ("", "# another\n"):
        with (place / "esper_analyzer" / "judging" / "rules" / "learning.py").open("a") as rules:
            rules.write(text)
        made = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(place)}, capture_output=True, check=True
        )
        answers.append(made.stdout.decode().strip())
    assert answers[0] == code_digest() != answers[1]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("judgement", lambda body: judged(body).pop("verdict")),
        ("judgement", lambda body: judged(body)["verdict"].update(level="splendid")),
        ("judgement", lambda body: judged(body).update(alerts={"a": 1})),
        ("judgement", lambda body: judged(body).update(trouble=[])),
        ("judgement", lambda body: body.update(of_ranks=[["0"]])),
        ("report", lambda body: body["metrics"].update(value_loss=None)),
        ("report", lambda body: body["updates"].update(missing=[[1]])),
        ("report", lambda body: body.clear()),
    ],
)
def test_what_is_of_another_type_is_not_believed(
    sound: Path, cache: Path, kind: str, change: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is whole, but is not what was kept, is replaced by what the rows give."""
    expected = report(sound)
    falsify(cache, change, kind)
    falsified = {path: path.read_bytes() for path in cache.iterdir()}
    assert report(sound) == expected == report_from_rows(sound, monkeypatch)
    assert {path: path.read_bytes() for path in cache.iterdir()} != falsified


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "files"), [("report", 2), ("check", 2), ("compare", 2), ("explain", 1), ("tail --once", 1)]
)
def test_no_cache(command: str, files: int, sound: Path, cache: Path, record: Callable[..., Path]) -> None:
    """With --no-cache a command keeps nothing, takes nothing that was kept, and says the same."""
    runs = [str(sound)] + ([str(record(rows(20), "second"))] if command == "compare" else [])
    first = CliRunner().invoke(main, [*command.split(), *runs, "--no-cache"])
    assert not cache.exists()
    assert NO_CACHE not in os.environ
    again = [CliRunner().invoke(main, [*command.split(), *runs]) for _ in range(2)]
    assert {(one.exit_code, one.stdout) for one in (first, *again)} == {(first.exit_code, first.stdout)}
    assert len(list(cache.iterdir())) == files
    falsify(cache, lambda body: judged(body)["verdict"]["findings"].clear(), "judgement")
    falsify(cache, mark)
    assert CliRunner().invoke(main, [*command.split(), *runs, "--no-cache"]).stdout == first.stdout


def test_what_was_judged_once_is_not_judged_by_another_command(cache: Path, record: Callable[..., Path]) -> None:
    """After `report`, `explain`, the page and `compare` take the judgement from the cache."""
    first = record([{**one, "kl_divergence": 9.0 if one["update"] > 40 else 0.01} for one in rows(60)], "first")
    second = record(rows(60), "second")
    for run in (first, second):
        report(run)
    one, both = [str(first)], [str(first), str(second)]
    answers = [["explain", *one], ["report", *one, "--format", "html"], ["compare", *both]]
    before = [CliRunner().invoke(main, arguments).stdout for arguments in answers]
    marked = "a sentence that no rule has"

    def change(body: dict[str, Any]) -> None:
        judged(body)["verdict"].update(level="unknown", findings=[])
        if judged(body)["trouble"] is not None:
            judged(body)["trouble"]["alert"].update(message=marked)

    falsify(cache, change, "judgement")
    after = [CliRunner().invoke(main, arguments).stdout for arguments in answers]
    assert marked in after[0]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert [CliRunner().invoke(main, [*arguments, "--no-cache"]).stdout for arguments in answers] == before


def test_gates_on_every_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of several ranks with gates takes each of its reports from the cache."""
    run = copy_run("two_ranks", tmp_path)
    arguments = ["check", str(run), "--rank", "all", "--gate", "value_loss", "--format", "json"]
    answers = [CliRunner().invoke(main, [*arguments, *more]).stdout for more in (["--no-cache"], [], [])]
    assert answers[0] == answers[1] == answers[2]
