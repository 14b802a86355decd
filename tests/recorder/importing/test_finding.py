"""What a file or folder is taken for."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from esper_recorder.importing.finding import NothingYetError, find_source
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.point_log import Given, PointLog
from esper_schemas.errors import UsageError

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize(
    ("content", "is_waited_for"),
    [
        (b"", True),
        (b"upd", True),
        (b"x" * 4095, True),
        (b"x" * 4096, False),
        (b"upd\n", False),
        (b"upd\0", False),
        (b"# began\n\nupd", True),
        (b"[\n", True),
    ],
    ids=["empty", "begun", "a long line begun", "too long a line", "a line", "binary", "a comment", "an array"],
)
def test_a_log_that_is_only_begun_is_waited_for(content: bytes, is_waited_for: bool, tmp_path: Path) -> None:
    """While a log is followed, a beginning that may become anything is no error; read once, it is one."""
    log = tmp_path / "log"
    log.write_bytes(content)
    given = Given({}, {}, None)
    with pytest.raises(NothingYetError if is_waited_for else UsageError):
        find_source(log, given, Following(lambda: False))
    with pytest.raises(UsageError, match="expected"):
        find_source(log, given, READ_ONCE)


@pytest.mark.parametrize("where", [".summary/0", "logs/runs/ppo/CartPole-v1/run/version_0", "log/serial"])
def test_the_only_log_below_a_folder_is_read(where: str, tmp_path: Path) -> None:
    """Sample Factory, SheepRL and DI-engine log deep below settings, checkpoints, and texts with tables in them."""
    log = tmp_path / where / "progress.csv"
    log.parent.mkdir(parents=True)
    log.write_bytes((DATA / "sb3_lunar_progress.csv").read_bytes())
    (tmp_path / "config.json").write_text('{\n  "seed": 1,\n  "env": "CartPole-v1"\n}\n')
    for folder in ("nn", "log/evaluator", "wandb/files"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "nn" / "best.pth").write_bytes(b"PK\3\4\0\0")
    (tmp_path / "wandb" / "files" / "wandb-metadata.json").write_text('{\n  "os": "Linux"\n}\n')
    episode = "[2026-11-28 00:35:15][INFO] final reward: 8.0000, current episode: 1\n"
    (tmp_path / "log" / "evaluator" / "evaluator_logger.txt").write_text(
        f"{episode}| Value | [11.0, 10.0, 9.0] | 9.8 |\n"
    )
    found = find_source(tmp_path, Given({}, {}, None))
    assert isinstance(found, PointLog)
    assert found.path == log.parent


def test_several_logs_below_a_folder_are_named(tmp_path: Path) -> None:
    """However deep they lie; a log that is followed is not waited for, since nothing tells which one is meant."""
    for name in ("a/b/c", "a/d"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "progress.csv").write_bytes((DATA / "sb3_lunar_progress.csv").read_bytes())
    for following in (READ_ONCE, Following(lambda: False)):
        with pytest.raises(UsageError, match=r"pass one of the folders in it: a/b/c, a/d$"):
            find_source(tmp_path, Given({}, {}, None), following)


def test_settings_alone_are_no_log(tmp_path: Path) -> None:
    """A folder with nothing but a JSON document of several lines has no log; the document is not read as lines."""
    (tmp_path / "config.json").write_text('{\n  "seed": 1\n}\n')
    with pytest.raises(UsageError, match="found none in this folder"):
        find_source(tmp_path, Given({}, {}, None))


def test_a_zip_archive_is_named_as_one(tmp_path: Path) -> None:
    """ClearML and Comet keep their offline runs as such."""
    log = tmp_path / "offline.zip"
    with ZipFile(log, "w") as archive:
        archive.writestr("metrics.jsonl", "{}")
    with pytest.raises(UsageError, match=r"found a zip archive; unpack it first$"):
        find_source(log, Given({}, {}, None))


@pytest.mark.parametrize(
    "names",
    [
        ["[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "xl/worksheets/sheet1.xml"],
        ["docProps/app.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml"],
        ["mimetype", "content.xml"],
    ],
    ids=["Excel", "openpyxl", "LibreOffice"],
)
def test_a_spreadsheet_is_named_as_one(names: list[str], tmp_path: Path) -> None:
    """It is a zip archive with parts that nobody has to unpack."""
    log = tmp_path / "log.xlsx"
    with ZipFile(log, "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.spreadsheet" if name == "mimetype" else "<x/>")
    with pytest.raises(UsageError, match=r"found an Excel sheet or another document of Office; save the sheet as CSV$"):
        find_source(log, Given({}, {}, None))


def test_numbers_without_the_names_of_columns_are_no_log(tmp_path: Path) -> None:
    """HARL writes steps and returns of its evaluations beside its log; their first line is no header."""
    log = tmp_path / "logs" / "progress.csv"
    log.parent.mkdir()
    log.write_bytes((DATA / "sb3_lunar_progress.csv").read_bytes())
    evaluations = tmp_path / "progress.txt"
    evaluations.write_text("500,-94.7388817074826\n1000,-104.4\n")
    found = find_source(tmp_path, Given({}, {}, None))
    assert isinstance(found, PointLog)
    assert found.path == log.parent
    with pytest.raises(UsageError, match="found text"):
        find_source(evaluations, Given({}, {}, None))
