"""Finds out what a file or a folder is, from its content."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path

from esper_recorder.importing import mlflow, mlflow_database, torchrl_csv, trackio
from esper_recorder.importing.console import ConsoleOutput, is_console
from esper_recorder.importing.csv_table import CsvTable
from esper_recorder.importing.database import MAGIC as SQLITE
from esper_recorder.importing.database import tables_in
from esper_recorder.importing.esper_lite import EsperLiteEvents
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.json_document import JsonDocument, has_rows
from esper_recorder.importing.number_files import NumberFiles
from esper_recorder.importing.other_files import COMPRESSED, describe_start, has_decimal_commas
from esper_recorder.importing.point_log import NOT_READ, Given, PointLog
from esper_recorder.importing.points import PointReader
from esper_recorder.importing.printed_lines import PrintedLines, has_losses
from esper_recorder.importing.records import JsonLines, ParquetTable
from esper_recorder.importing.run_import import UpdateSource
from esper_recorder.importing.table_folder import TableFolder, keys_of_tables
from esper_recorder.importing.table_layout import START_BYTES, layout_of
from esper_recorder.importing.text_file import TextFile
from esper_recorder.importing.tfevents.reader import EventFiles
from esper_recorder.importing.tfevents.series import EventFolders, series_in
from esper_recorder.importing.unpacking import Unpacked
from esper_recorder.importing.wandb_offline import MAGIC as WANDB
from esper_recorder.importing.wandb_offline import WandbRun
from esper_schemas.errors import UsageError
from esper_schemas.tfevents.records import is_start

_MAX_FILES = 10_000
_DEEPEST = 6
"""So many folders below a folder its log is looked for; trainers that use Hydra put it four or five deep."""

_MAX_FOLDERS = 500

_EXPECTED = "a log of a PPO: tfevents, CSV, JSON lines, Parquet, W&B offline, Trackio, MLflow, or console output"

_KINDS = (
    "esper-lite events",
    "JSON lines",
    "CSV",
    "JSON document",
    "console output",
    "W&B",
    "event files",
    "Parquet",
    "database",
    "text table",
)
"""What a folder can have, the best first. Of one training, text has all digits and event files have 32-bit numbers.

A table between bars or spaces comes last: notes that lie beside a log have such, too.
"""

_OBJECTS = re.compile(rb"\s*(?:\{(?!')|(\[)\s*\{\s*\")")
"""How JSON begins that is objects, or an array of them; Python prints a dict otherwise. Not every array is a log."""

_PRINTED = "printed lines"
"""What only a file that is named is read as: source code and notes, which a folder may have, look like it."""

_BINARY = {b"PAR1": "Parquet", SQLITE: "database", WANDB: "W&B"}
"""How logs begin that are no text."""

_OF_BYTES = {*_BINARY.values(), "event files"}
"""Logs whose readers need a file on the disk that is not packed."""

_MESSAGES = re.compile(r"debug(-\w+)?\.log")
"""What W&B names the logs of its own messages, which are JSON lines, too."""

OUR_OWN = ("run.json", "rank-")
"""How names begin in a folder that a run of ours was recorded into."""


class NothingYetError(Exception):
    """A log that is followed has nothing yet that tells what it will be."""


def kind_of(path: Path) -> str:
    """Return what a file is, one of `_KINDS`; an empty text if it is nothing that can be imported.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():  # a pipe, from which only a log of esper-lite is read: nothing is taken from it here
        return "esper-lite events"
    with TextFile(path) as text:
        start, packing = text.stream.read(START_BYTES), text.packing
    if packing in ("", "gzip"):
        if is_start(start[:12]):
            return "event files"
        for magic, kind in _BINARY.items():
            if start.startswith(magic):
                return kind
    first = start.removeprefix(BOM_UTF8).lstrip().partition(b"\n")[0]
    if b"\0" in first:  # further down, a power loss may have left zeros in a text
        return ""
    if first.startswith((b"{", b"[")) and has_rows(path):
        return "JSON document"
    if (objects := _OBJECTS.match(start.removeprefix(BOM_UTF8))) and (not objects[1] or b"loss" in start.lower()):
        return "esper-lite events" if _has_events(start) else "JSON lines"
    if is_console(start):
        return "console output"
    layout = None if has_decimal_commas(start.decode("utf-8", "replace")) else layout_of(start)
    if layout is None or (layout.before > 1 and not _has_loss(layout.header) and has_losses(path)):
        return ""  # a program printed a table, and then its losses
    return "text table" if layout.is_of_prose else "CSV"


def _has_loss(names: Sequence[str]) -> bool:
    return any("loss" in name.lower() for name in names)


def _start_of(path: Path) -> tuple[bytes, str]:
    """Return the first 4 kB of the text of a file, and what it is packed in; nothing of a pipe."""
    if not path.is_file():
        return b"", ""
    with TextFile(path) as text:
        return text.stream.read(4096), text.packing


def _described(start: bytes, packing: str) -> str:
    """Say what a file is that is no log."""
    found = describe_start(start)
    return f"{found} in {packing}; decompress it first" if packing and found == "binary data" else found


def _has_events(start: bytes) -> bool:
    """Whether one of the first lines is an event of esper-lite."""
    for line in start.splitlines()[:1000]:
        if b'"event_type"' in line:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and isinstance(event.get("event_type"), str):
                return True
    return False


def _document(path: Path) -> bytes:
    """Return a file that is a single JSON document, as settings are; nothing of a log with a line for each update."""
    with TextFile(path) as text:
        content = text.stream.read(START_BYTES + 1)
    try:
        return content if len(content) <= START_BYTES and json.loads(content) is not None else b""
    except (ValueError, RecursionError):
        return b""


def find_source(path: Path, given: Given, following: Following = READ_ONCE) -> UpdateSource:
    """Return the source of updates in a file or folder.

    Raises:
        NothingYetError: the log is followed, and nothing is there yet that tells what it will be.
        UsageError: nothing in it can be imported.
        OSError: it cannot be read.
    """
    if path.is_dir():
        if (reader := _of_number_files(path, following)) is not None:
            return PointLog(reader.folder, reader, given, following)
        return _of_folder(path, given, following)
    start, packing = _start_of(path)  # before its kind is looked for, as a log that is followed may grow meanwhile
    kind = kind_of(path) or (_PRINTED if has_losses(path) else "")
    if not kind:
        if not following.is_over and _is_only_begun(start):
            raise NothingYetError(f"{path} is {describe_start(start) if not start else 'only begun'}")
        found = _described(start, packing)
        raise UsageError(f"{path}: expected {_EXPECTED}; found {found}")
    if kind == "JSON lines" and following.is_over and _document(path).strip().count(b"\n"):
        raise UsageError(f"{path}: expected {_EXPECTED}; found one JSON document, without a table that has a loss")
    return _source(path, kind, [path], given, following)


def _is_only_begun(start: bytes) -> bool:
    """Whether a file may become anything: it is short, and has at most comments, and the bracket of an array."""
    lines = start.split(b"\n")
    is_open = all(line.strip() in (b"", b"[") or line.startswith(b"#") for line in lines[:-1])
    return is_open and b"\0" not in start and len(start) < 4096


def _of_number_files(folder: Path, following: Following) -> NumberFiles | None:
    """Return the reader of a folder that has a file for each number; None if it is no such folder."""
    if (run := mlflow.run_of(folder)) is not None:
        return mlflow.MlflowRun(run, following)
    experiment = torchrl_csv.experiment_of(folder)
    return None if experiment is None else torchrl_csv.TorchrlExperiment(experiment, following)


def _of_folder(folder: Path, given: Given, following: Following) -> UpdateSource:
    files: dict[str, list[Path]] = {}
    entries = sorted(folder.iterdir())
    if len(entries) > _MAX_FILES:
        raise UsageError(f"{folder}: it has {len(entries):,} entries; name the log in it")
    for path in entries:
        is_other = path.name.startswith(OUR_OWN) or _MESSAGES.fullmatch(path.name) or _is_copy(path)
        if path.is_file() and not is_other and (kind := kind_of(path)):
            files.setdefault(kind, []).append(path)
    inner = _inner_logs(entries)
    lines = files.pop("JSON lines", [])
    settings = [path for path in lines if _document(path)]
    if len(settings) == len(lines) and not files and not inner:  # nothing else to read: a log may have one line only
        settings = [path for path in settings if b"\n" in _document(path).strip()]
    if logs := [path for path in lines if path not in settings]:
        files["JSON lines"] = logs
    kind = next((kind for kind in _KINDS if kind in files), "")
    if not kind:
        if (folder / OUR_OWN[0]).is_file():
            raise UsageError(
                f"{folder}: expected {_EXPECTED}; found a run of ours: esper-analyze report --run {folder}"
            )
        below = _logs_below(folder)
        if len(below) == 1:
            return find_source(below[0], given, following)
        shown = _shown([path.relative_to(folder).as_posix() for path in below])
        hint = f"; pass one of the folders in it: {shown}" if below else ""
        if not following.is_over and not hint:
            raise NothingYetError(f"{folder} has no log of a PPO yet")
        raise UsageError(f"{folder}: expected {_EXPECTED}; found {_found_in(entries)}{hint}")
    tables = keys_of_tables(files[kind], given.source_run) if kind == "CSV" and len(files[kind]) > 1 else None
    if tables is not None and "event files" in files:
        kind, tables = "event files", None  # which the tables are a sample of
    if len(files[kind]) > 1 and kind != "event files" and tables is None:
        names = ", ".join(path.name for path in files[kind][:5])
        raise UsageError(f"{folder}: it has {len(files[kind]):,} logs ({names}); name one of them")
    series = series_in(folder) if kind == "event files" else {}
    if series or (kind == "event files" and not following.is_over):
        unpacked = Unpacked(files[kind])
        reader = EventFolders(unpacked.files, folder, series, following)
        source: UpdateSource = PointLog(folder, reader, given, following, unpacked)
    elif tables is not None:
        source = PointLog(folder, TableFolder(tables, following, given.source_run), given, following)
    else:
        source = _source(folder, kind, files[kind], given, following)
    others = [path.name for other, paths in files.items() if other != kind for path in paths]
    others += [path.name for path in settings]
    inner = [name for name in inner if folder / name not in series]
    if inner and kind != "W&B":  # which keeps messages of its own in a folder beside the run
        source.account.notes.append(f"{NOT_READ}the folders in it that have logs: {_shown(inner)}")
    if others:
        read = ", ".join(path.name for path in files[kind])
        source.account.notes.append(
            f"read from {read}; not read: {', '.join(others)}, which may be of the same training"
        )
    return source


def _is_copy(path: Path) -> bool:
    """Whether a file in gzip is beside the file that it was made of."""
    return path.suffix == ".gz" and path.with_suffix("").is_file()


def _found_in(entries: Sequence[Path]) -> str:
    """What is in a folder without a log, as far as a person can do something about it."""
    for path in entries:
        if path.is_file():
            start, _ = _start_of(path)
            if start.startswith(tuple(COMPRESSED)):
                return f"{path.name}, which is {describe_start(start)}"
    return "none in this folder"


def _inner_logs(entries: Sequence[Path]) -> list[str]:
    """Names of the folders that have a log."""
    return [path.name for path in _folders_of(entries) if _has_log(path)]


def _folders_of(entries: Sequence[Path]) -> list[Path]:
    """The folders among them. A link to another of them, such as `latest-run` of W&B, is left out."""
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(OUR_OWN)]
    own = {path.resolve() for path in folders if not path.is_symlink()}
    return [path for path in folders if not path.is_symlink() or path.resolve() not in own]


def _logs_below(folder: Path) -> list[Path]:
    """The folders below one that have a log, the highest of each branch, in the order of their names."""
    found: list[Path] = []
    level = [folder]
    looked_at = 0
    for _ in range(_DEEPEST):
        inside = [path for one in level for path in _folders_of(_sorted_entries(one))][: _MAX_FOLDERS - looked_at]
        looked_at += len(inside)
        logs = list(filter(_has_log, inside))
        found += logs
        level = [path for path in inside if path not in logs]
    return sorted(found)


def _sorted_entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _has_log(folder: Path) -> bool:
    try:
        return _of_number_files(folder, READ_ONCE) is not None or any(map(_is_log, folder.iterdir()))
    except OSError:
        return False


def _is_log(path: Path) -> bool:
    """Whether a file is a log; one JSON document, as settings are, is none."""
    kind = kind_of(path) if path.is_file() else ""
    return bool(kind) and not (kind == "JSON lines" and b"\n" in _document(path).strip())


def _in_database(path: Path, given: Given, following: Following) -> PointReader:
    tables = tables_in(path)
    if tables >= mlflow_database.TABLES:
        return mlflow_database.MlflowDatabaseRun(path, given.source_run, following)
    if tables >= trackio.TABLES:
        return trackio.TrackioRun(path, given.source_run, following)
    found = f"tables {_shown(sorted(tables))}" if tables else "no table"
    raise UsageError(f"{path.name}: expected a database of Trackio or MLflow, found a SQLite database with {found}")


def _source(path: Path, kind: str, files: Sequence[Path], given: Given, following: Following) -> UpdateSource:
    if kind == "esper-lite events":
        return EsperLiteEvents(files[0], following)
    if kind not in _OF_BYTES:
        return PointLog(path, _of_text(kind, files[0], given, following), given, following)
    unpacked = Unpacked(files)
    reader: PointReader
    if kind == "event files":
        reader = EventFiles(unpacked.files, path if path.is_dir() else None, following)
    elif kind == "Parquet":
        reader = ParquetTable(unpacked.files[0], following, given.source_run)
    elif kind == "W&B":
        reader = WandbRun(unpacked.files[0], following)
    else:
        reader = _in_database(unpacked.files[0], given, following)
    return PointLog(path, reader, given, following, unpacked)


def _of_text(kind: str, path: Path, given: Given, following: Following) -> PointReader:
    if kind in ("CSV", "text table"):
        return CsvTable(path, following, given.source_run)
    if kind == "JSON lines":
        return JsonLines(path, following, given.source_run)
    if kind == "JSON document":
        return JsonDocument(path, following, given.source_run)
    if kind == _PRINTED:
        return PrintedLines(path, following)
    return ConsoleOutput(path, following)
