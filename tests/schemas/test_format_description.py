"""`format.json` checked against the code and against real files."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from tests.schemas import format_reader
from tests.schemas.format_corpus import (
    DESCRIPTION,
    Corpus,
    hold,
    is_same,
    make_corpus,
    ours_of_active,
    ours_of_black_boxes,
)
from tests.schemas.format_reader import FormatReader, bits

from esper_schemas import Attempt, EsperError, RunHeader, Seal
from esper_schemas.examining.faults import Repair
from esper_schemas.run import directory
from esper_schemas.run import names as run_names
from esper_schemas.run.files import Folder
from esper_schemas.run.records import BlackBoxRecord
from esper_schemas.segment import black_box, sealed
from esper_schemas.testing import description, strategies

Record = RunHeader | Attempt | Seal | BlackBoxRecord | Repair

OFTEN = settings(max_examples=50, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Everything that is read, made once."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


# ------------------------------------------------------------------ the description against real files


def test_reader_knows_nothing_but_the_description() -> None:
    """The independent reader imports nothing of Esper."""
    tree = ast.parse(Path(format_reader.__file__).read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if "esper" in name or "tests" in name]


def test_corpus_holds_every_kind_of_end(corpus: Corpus) -> None:
    """Among the files are clean, torn and corrupt ones with and without rows, and rows of every type and null."""
    assert {(found.end, bool(found.rows)) for _, found in corpus.active} == {
        (end, rows) for end in ("clean", "torn", "corrupt") for rows in (True, False)
    }
    kinds = {type(value) for _, found in corpus.active for row in found.rows for value in row.values()}
    assert kinds == {bytes, int, bool, type(None)}


def test_files_are_read_by_the_description(corpus: Corpus) -> None:
    """Active files of every type, golden runs and fresh ones give, bit for bit, what our own reader gives."""
    hold(DESCRIPTION, corpus)


@OFTEN
@given(written=strategies.active_segments())
def test_any_active_file_is_read_by_the_description(written: strategies.ActiveFile) -> None:
    """Whatever is recorded, the independent reader finds what was written and what our reader finds."""
    found = FormatReader(DESCRIPTION).active(written.data)
    assert is_same(found, ours_of_active(written.data))
    assert len(found.rows) == len(written.rows)


@OFTEN
@given(written=strategies.black_boxes())
def test_any_black_box_is_read_by_the_description(
    written: strategies.BlackBoxFile, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever minibatches are written, the independent reader finds them, and what our reader finds."""
    folder = tmp_path_factory.mktemp("r") / run_names.rank_name(written.rank)
    (folder / run_names.BLACK_BOXES).mkdir(parents=True)
    (folder / run_names.black_box_name(written.name)).write_bytes(written.data)
    (folder / run_names.black_box_record_name(written.name)).write_bytes(written.record.to_bytes())
    (found,) = FormatReader(DESCRIPTION).run(folder.parent)[1].values()
    (ours,) = ours_of_black_boxes(folder.parent).values()
    assert is_same(found, ours)
    assert found.columns == list(written.columns)
    assert found.rows == [
        {name: bits(values[i]) for name, values in written.columns.items()} for i in range(len(found.rows))
    ]
    assert len(found.rows) == written.record.minibatches


@OFTEN
@given(
    record=strategies.run_headers()
    | strategies.attempts()
    | strategies.seals()
    | strategies.black_box_records()
    | strategies.repairs()
)
def test_any_record_is_as_described(record: Record) -> None:
    """Every record that Esper can write is valid by its schema."""
    kinds = {type(one): kind for kind, one in RECORDS.items()}
    FormatReader(DESCRIPTION).record(kinds[type(record)], record.to_bytes())


# ------------------------------------------------------------------ a wrong description

_PROSE = {"title", "description", "content", "unit", "optional"}
_BY_CODE = [("limits",), ("records",), ("format",), ("columns", "metrics")]
"""Held against the code below, not against files: a limit that is a bit too wide shows in no sound file."""

KeyPath = tuple[str | int, ...]


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if path[:2] in _BY_CODE or path[:1] in _BY_CODE or (path and path[-1] in _PROSE):
        return
    if isinstance(value, (dict, list)):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in entries:
            yield from _leaves(item, (*path, key))
    else:
        yield path, value


def _mutants() -> Iterator[tuple[KeyPath, Any]]:
    """Each number one more and one less, each text another, each truth the opposite."""
    for path, value in _leaves(DESCRIPTION):
        if path == ("active", "header", "checksum", "covers"):
            continue  # said in words
        if isinstance(value, bool):
            yield path, not value
        elif isinstance(value, int):
            yield from ((path, value + 1), (path, value - 1))
        else:
            yield path, _OTHER.get(value, f"{value}x")


_OTHER = {"01": "02", "ffffffff": "fffffffe", "<iI": ">iI", "<B": ">H"}
_OTHER |= {"<d": "<q", "<q": "<Q", "<i": "<I", "<?": "<B"}
MUTANTS = list(_mutants())


def _with(path: KeyPath, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(DESCRIPTION)
    reduce(lambda inner, key: inner[key], path[:-1], document)[path[-1]] = value  # type: ignore[index]
    return document


@pytest.mark.slow
def test_every_change_of_the_description_is_found_out(corpus: Corpus) -> None:
    """No number, name or type of the description can be changed without real files being read otherwise."""
    hold(DESCRIPTION, corpus)
    survivors = []
    for path, value in MUTANTS:
        try:
            hold(_with(path, value), corpus)
        except Exception:
            continue
        survivors.append((path, value))
    assert survivors == [], "\n".join(map(str, survivors))
    assert len(MUTANTS) > 150


@pytest.mark.parametrize("key", DESCRIPTION["metadata"])
def test_renamed_metadata_is_found_out(key: str, corpus: Corpus) -> None:
    """Each key of the schema metadata is one that real files have; as they are named, the files are as described."""
    document = copy.deepcopy(DESCRIPTION)
    document["metadata"][f"{key}x"] = document["metadata"].pop(key)
    with pytest.raises((AssertionError, KeyError, format_reader.FormatError)):
        hold(document, corpus)


# ------------------------------------------------------------------ the description against the code


def test_description_follows_from_the_code() -> None:
    """Columns, limits and the fields of records are those of the code, as `testing.description` writes them."""
    assert description.FILE.read_text(encoding="utf-8") == description.to_text(description.refreshed(DESCRIPTION))


RECORDS: dict[str, Record] = {
    "run": RunHeader(run_uuid="u", run_id="r", created="2026-01-01T00:00:00+00:00"),
    "attempt": Attempt(attempt=0, started="2026-01-01T00:00:00+00:00"),
    "seal": Seal(
        segment=0,
        attempt=0,
        sha256="0" * 64,
        bytes=1,
        rows=1,
        first_seq=0,
        last_seq=2**62 - 1,
        first_update=0,
        last_update=0,
        updates_rise=True,
    ),
    "black_box": BlackBoxRecord(
        seq=0,
        attempt=0,
        run_uuid="u",
        written="2026-01-01T00:00:00+00:00",
        trigger="asked",
        reason="a look",
        minibatches=1,
        bytes=1,
        sha256="0" * 64,
    ),
    "repair": Repair(repair=0, repaired="2026-01-01T00:00:00+00:00", losses=[{"cause": "x"}]),
}
_GONE = object()
_NUMBERS = [
    *(0, -1, -2, 5, 1.5),
    *(65_536, 65_537, 100_000, 100_001, 2**27, 2**27 + 1),
    *(2**62 - 1, 2**62, 2**62 + 1),
]
VALUES = [_GONE, None, True, "", "x", *_NUMBERS, [], [1], ["x"], {}, {"a": None}]
LENIENT = {
    ("run", "run_id"),
    ("run", "versions"),
    ("seal", "sha256"),
    ("black_box", "sha256"),
    ("repair", "done"),
    ("run", "redacted"),
}
"""Fields of which our reader takes more than a writer writes."""


def _reads(folder: Path, kind: str, values: dict[str, Any]) -> bool:
    """Whether our reader takes a record."""
    number = values.get("seq" if kind == "black_box" else kind)
    number = number if isinstance(number, int) and not isinstance(number, bool) else 0
    names = {"attempt": run_names.attempt_name(number), "black_box": run_names.black_box_record_name(f"{number:08d}")}
    name = names.get(kind, "record.json")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(values))
    with Folder.at(folder) as held:
        try:
            if kind == "attempt":
                directory.read_attempt(held, number)
            elif kind == "black_box":
                black_box.read_record(held, f"{number:08d}")
            elif kind == "repair":
                Repair.read(held, name).parsed("it")
            elif kind == "seal":
                sealed.check_seal(Seal.read(held, name), values.get("segment", 0), "it")
            else:
                RunHeader.read(held, name)
        except EsperError:
            return False
    return True


def _variants(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in values:
        for value in VALUES:
            others = {name: it for name, it in values.items() if name != field}
            yield field, others if value is _GONE else {**others, field: value}


@pytest.mark.parametrize("kind", RECORDS)
def test_schema_of_a_record_says_what_our_reader_says(kind: str, tmp_path: Path) -> None:
    """Whatever stands in a field, or that it is gone: the schema refuses what our reader refuses."""
    validator = jsonschema.Draft202012Validator(DESCRIPTION["records"][kind])
    validator.check_schema(validator.schema)
    lenient = set()
    for field, values in _variants(json.loads(RECORDS[kind].to_bytes())):
        is_valid, is_read = validator.is_valid(values), _reads(tmp_path, kind, values)
        assert is_read or not is_valid, values
        if is_read and not is_valid:
            lenient.add((kind, field))
    assert lenient == {(of, field) for of, field in LENIENT if of == kind}


def test_schema_of_a_loss_says_what_our_reader_says(tmp_path: Path) -> None:
    """The same for each loss of a repair."""
    validator = jsonschema.Draft202012Validator(DESCRIPTION["records"]["repair"])
    record = json.loads(RECORDS["repair"].to_bytes())
    loss = {"first_segment": 1, "last_segment": 2, "first_seq": 3, "last_seq": 4, "cause": "x"}
    for _, values in _variants(loss):
        whole = {**record, "losses": [values]}
        assert validator.is_valid(whole) == _reads(tmp_path, "repair", whole), values
