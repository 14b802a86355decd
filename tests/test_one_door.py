"""One door to the files of a run: no module but `esper_schemas.run.files` opens, lists or changes anything on a disk.

To the objects of a store there is one as well, `esper_schemas.run.bucket`; only an upload has another.

A file of a run may be a link, a pipe, a device, or 60 GB of zeros. Whoever opens it by its path follows, waits or
unpacks; the door does not. What else a program needs of a disk is listed below, each with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGES = [PROJECT / name for name in ("schemas/esper_schemas", "recorder/esper_recorder", "analyzer/esper_analyzer")]
TESTING = PROJECT / "schemas/esper_schemas/testing"  # writes and damages runs of its own, in the folder of a test
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py") if not path.is_relative_to(TESTING))

DOOR = "schemas/esper_schemas/run/files.py"
DOOR_TO_OBJECTS = "schemas/esper_schemas/run/bucket.py"

EXEMPT: dict[str, dict[str, str]] = {
    "schemas/esper_schemas/console.py": {
        "os.open": "/dev/null in place of a standard stream whose reader is gone, or that is closed",
        "open": "/dev/null as standard output where there is none",
        "shutil.get_terminal_size": "the terminal",
    },
    "schemas/esper_schemas/run/fingerprint.py": {
        "os.open": "folders in a folder that came through the door, relative to its descriptor; no file, and no link",
        "os.listdir": "the names in them",
        "os.stat": "the state of what is in them; no link is followed",
    },
    "schemas/esper_schemas/run/finding.py": {
        "is_dir": "what a person named as a root or a run, for the words of an error",
        "is_file": "what a person named as a run, for the words of an error",
    },
    "recorder/esper_recorder/keeping/durable.py": {
        "exists": "the folders above a root that a person named",
    },
    "recorder/esper_recorder/keeping/lock.py": {
        "exists": "/proc",
        "read_text": "/proc",
    },
    "recorder/esper_recorder/writing/run_queue.py": {
        "os.open": "/proc",
    },
    "recorder/esper_recorder/adapters/program.py": {
        "open": "the script that is run",
        "os.path.realpath": "its folder, which Python looks for modules in",
    },
    "analyzer/esper_analyzer/caching/code.py": {
        "is_dir": "the source of the packages",
        "os.scandir": "the source of the packages",
        "io.FileIO": "the source of the packages, of which a digest is made",
    },
    "analyzer/esper_analyzer/reading/imported_log.py": {
        "exists": "the log of another trainer that a person named",
        "is_dir": "the log of another trainer that a person named",
        "is_file": "files of that log",
        "iterdir": "the folder of that log; the temporary folder, for the run that esper-rec made in it",
    },
    "recorder/esper_recorder/importing/command.py": {
        "is_dir": "the log that is imported",
        "is_file": "files of a log",
        "iterdir": "the folder of a log",
        "stat": "the size of a log",
    },
    "recorder/esper_recorder/importing/finding.py": {
        "is_dir": "the log that is imported",
        "is_file": "files of a log",
        "iterdir": "the folder of a log",
    },
    "recorder/esper_recorder/importing/fingerprint.py": {
        "exists": "whether the name of a new run is taken by anything; it is made exclusively all the same",
        "is_dir": "whether it is the folder of another tool, which a run joins",
    },
    "recorder/esper_recorder/importing/following.py": {
        "is_dir": "the log that is followed",
        "iterdir": "the folder of a log",
        "stat": "whether a file of a log has changed",
    },
    "recorder/esper_recorder/importing/text_file.py": {
        "open": "the log that is imported",
    },
    "recorder/esper_recorder/importing/unpacking.py": {
        "open": "what a log in gzip has, as a file of a temporary folder",
        "mkdir": "a folder in that folder",
        "shutil.copystat": "the times of the log, for that file",
    },
    "recorder/esper_recorder/importing/json_document.py": {
        "stat": "the size of the log that is imported",
    },
    "recorder/esper_recorder/importing/records.py": {
        "open": "the log that is imported",
        "pq.ParquetFile": "the log that is imported",
    },
    "recorder/esper_recorder/importing/database.py": {
        "exists": "the log of SQLite beside the database that is imported",
        "open": "the database that is imported",
        "stat": "its size",
    },
    "recorder/esper_recorder/importing/mlflow.py": {
        "is_dir": "the folder of the run of MLflow that is imported",
        "is_file": "its description and parameters",
        "iterdir": "its parameters",
        "open": "its parameters",
    },
    "recorder/esper_recorder/importing/number_files.py": {
        "is_dir": "the folder of files that is imported, one for each number",
        "is_file": "its files",
        "open": "its files",
        "rglob": "its files",
        "stat": "whether one of them has shrunk",
    },
    "recorder/esper_recorder/importing/torchrl_csv.py": {
        "is_dir": "the folder of TorchRL that is imported",
    },
    "recorder/esper_recorder/importing/wandb_offline.py": {
        "open": "the log that is imported",
    },
    "recorder/esper_recorder/importing/tfevents/series.py": {
        "glob": "event files in the folder of a log",
        "is_dir": "folders in the folder of a log",
        "is_file": "files of a log",
        "open": "the log that is imported",
        "os.scandir": "folders in the folder of a log",
    },
    "recorder/esper_recorder/importing/tfevents/reader.py": {
        "is_file": "files of a log",
        "iterdir": "the folder of a log",
        "open": "the log that is imported",
        "stat": "whether a file of a log has grown",
    },
    "recorder/esper_recorder/uploading/remote.py": {
        "obstore.list": "what was uploaded before",
        "obstore.get": "whether an object that is there is the one to upload",
        "obstore.put": "a file of the run, which came through the door",
    },
    "recorder/esper_recorder/train/command.py": {
        "is_dir": "what a person named as a root",
    },
    "analyzer/esper_analyzer/judging/settings.py": {
        "is_file": "pyproject.toml, which is no file of a run",
        "stat": "its owner and size",
        "read_text": "thresholds, from a file of the user's",
    },
    "analyzer/esper_analyzer/caching/folder.py": {
        "mkdir": "the user's cache folder",
        "os.utime": "when a file of it was used last",
    },
    "analyzer/esper_analyzer/commands/fleet.py": {
        "is_dir": "the folder of the output that -o names",
    },
    "analyzer/esper_analyzer/exporting/export.py": {
        "exists": "the file that is exported to",
        "is_dir": "what a person named for it",
        "mkdir": "the folders above it",
    },
    "analyzer/esper_analyzer/whole_file.py": {
        "stat": "the output that -o names",
        "os.access": "the folder of it",
        "open": "the same file under another name, until it is whole; a pipe or a device in place",
        "replace": "its own name",
        "unlink": "what is left of it after an error",
    },
    "analyzer/esper_analyzer/reading/errors.py": {
        "os.open": "/dev/null in place of a standard error that polars would write its panics to",
    },
    "analyzer/esper_analyzer/drawing/terminal_size.py": {
        "shutil.get_terminal_size": "the terminal",
    },
    "analyzer/esper_analyzer/reporting/page.py": {
        "read_text": "templates, styles and scripts of the package",
    },
}
"""By module, the calls that are no way to a file of a run, and why."""

_METHODS = frozenset(
    {
        *("open", "read_bytes", "read_text", "write_bytes", "write_text", "touch", "unlink", "rename", "replace"),
        *("mkdir", "rmdir", "iterdir", "glob", "rglob", "walk", "exists", "is_file", "is_dir", "stat", "lstat"),
        *("symlink_to", "hardlink_to", "readlink", "chmod"),
    }
)
_OF_OS = frozenset(
    {
        *("open", "listdir", "scandir", "walk", "fwalk", "stat", "lstat", "access", "readlink"),
        *("remove", "unlink", "rename", "replace", "mkdir", "makedirs", "rmdir", "link", "symlink", "truncate"),
        *("chmod", "chown", "utime"),
    }
)
_BY_PATH = {
    ("pq", "read_table"), ("pq", "read_schema"), ("pq", "read_metadata"), ("pq", "write_table"), ("pq", "ParquetFile"),
    ("pl", "read_parquet"), ("pl", "scan_parquet"), ("pl", "read_ipc"), ("pl", "scan_ipc"), ("pl", "read_ipc_stream"),
    ("pa", "memory_map"), ("pa", "OSFile"), ("ds", "dataset"), ("tempfile", "mkdtemp"), ("io", "FileIO"),
}  # fmt: skip
"""Functions that take a path, or what is open already; where it is the latter, `_HANDED_OVER` says so."""

_HANDED_OVER = {
    "schemas/esper_schemas/segment/black_box.py": {"pq.write_table"},
    "schemas/esper_schemas/segment/sealed.py": {"pq.ParquetFile", "pq.write_table"},
    "analyzer/esper_analyzer/exporting/export.py": {"pq.write_table"},
    "analyzer/esper_analyzer/reporting/fleet/formats.py": {"pq.write_table"},
    "analyzer/esper_analyzer/reading/current_rows.py": {"pl.scan_parquet"},
}
"""Where such a function is given a file that came through the door, or bytes."""

_OF_OS_PATH = frozenset({"exists", "lexists", "isfile", "isdir", "islink", "getsize", "getmtime", "realpath"})


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each call that reaches for a file: `os.open`, `open`, `.read_text`, `pq.read_table`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open":
            yield node.lineno, "open()"
        if not isinstance(function, ast.Attribute):
            continue
        receiver, name = ast.unparse(function.value), function.attr
        if receiver in ("os", "os.path", "shutil"):
            if receiver == "shutil" or name in (_OF_OS if receiver == "os" else _OF_OS_PATH):
                yield node.lineno, f"{receiver}.{name}"
        elif (receiver, name) in _BY_PATH or receiver == "obstore":
            yield node.lineno, f"{receiver}.{name}"
        elif name in _METHODS and not _is_of_the_door(node, receiver, name):
            yield node.lineno, name


def _is_of_the_door(node: ast.Call, receiver: str, name: str) -> bool:
    """Whether a method of `Path` is that of the door, or of a text: those are told which name, or what to replace.

    `folder.exists(name)`, `folder.rename(name, target)` are the door's, `path.exists()`, `path.rename(target)` are not.
    """
    given = node.args
    if name in ("exists", "stat", "unlink"):
        return bool(given)
    if name in ("rename", "replace"):
        return len(given) > 1 or (not given and bool(node.keywords))
    if name != "open" or receiver in ("Recorder", "webbrowser"):
        return name == "open"
    if not given:  # of RunDirectory, RankDirectory, Piece
        return not receiver.endswith(("path", "file"))
    return not (isinstance(given[0], ast.Constant) and set(str(given[0].value)) <= set("rwxabt+"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_files_are_reached_through_the_door(module: Path) -> None:
    """A module that is not the door opens, lists, asks for and changes no file by its path."""
    name = str(module.relative_to(PROJECT))
    if name == DOOR:
        return
    if name == DOOR_TO_OBJECTS:
        calls = {call for _, call in _calls(ast.parse(module.read_text()))}
        assert calls == {"obstore.list", "obstore.get", "obstore.get_ranges"}
        return
    allowed = {*EXEMPT.get(name, {}), *_HANDED_OVER.get(name, set())}
    found = [f"{name}:{line}: {call}" for line, call in _calls(ast.parse(module.read_text())) if call not in allowed]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_exemptions_are_needed() -> None:
    """An exemption that no call needs any more is taken off the list."""
    for name, calls in {**EXEMPT, **_HANDED_OVER}.items():
        made = {call for _, call in _calls(ast.parse((PROJECT / name).read_text()))}
        assert not set(calls) - made, (name, set(calls) - made)


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("open(path)", "open()"),
        ("path.open()", "open"),
        ("self._path.open('rb')", "open"),
        ("(root / name).open('wb')", "open"),
        ("path.exists()", "exists"),
        ("path.unlink(missing_ok=True)", "unlink"),
        ("path.rename(target)", "rename"),
        ("path.replace(target)", "replace"),
        ("os.replace(path, target)", "os.replace"),
        ("os.path.isfile(path)", "os.path.isfile"),
        ("shutil.copyfile(path, target)", "shutil.copyfile"),
        ("list(path.iterdir())", "iterdir"),
        ("pq.ParquetFile(path)", "pq.ParquetFile"),
        ("obstore.get(store, key)", "obstore.get"),
        ("folder.open(name)", None),
        ("rank.exists(sealed_name(0))", None),
        ("folder.rename(name, target)", None),
        ("text.replace(before, after)", None),
        ("time.replace(microsecond=0)", None),
        ("os.path.join(one, other)", None),
    ],
)
def test_calls_are_told_apart(code: str, call: str | None) -> None:
    """A call by path is found; one of the door, or of a text, is none."""
    assert [name for _, name in _calls(ast.parse(code))] == ([] if call is None else [call])
