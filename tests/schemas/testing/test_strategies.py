from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from esper_schemas import Attempt, PPOUpdatePayload, RunHeader, Seal
from esper_schemas.examining.faults import Repair
from esper_schemas.metric.payload import METRICS, validate
from esper_schemas.run.directory import read_attempt
from esper_schemas.run.files import Folder
from esper_schemas.run.names import attempt_name
from esper_schemas.segment.scan import parse_active
from esper_schemas.segment.sealed import check_seal, is_same
from esper_schemas.testing import strategies
from esper_schemas.testing.segments import sealed_file

OFTEN = settings(max_examples=50, suppress_health_check=list(HealthCheck))


@OFTEN
@given(row=strategies.payload_rows())
def test_rows_are_updates(row: dict[str, Any]) -> None:
    """Every row that is drawn is accepted as it is, as keywords and as a payload."""
    assert validate(row).keys() == row.keys()
    metrics = {name: value for name, value in row.items() if name in METRICS}
    extras = {name: value for name, value in row.items() if name not in METRICS}
    assert PPOUpdatePayload(**metrics, extras=extras).to_dict().keys() == row.keys()


@OFTEN
@given(segment=strategies.active_segments(min_rows=1))
def test_active_files_are_whole_and_can_be_sealed(segment: strategies.ActiveFile) -> None:
    """An active file that is drawn is read to its end; one whose updates are all known is sealed bit for bit."""
    read = parse_active(segment.identity.segment, segment.data)
    assert read.identity == segment.identity
    assert read.rows is not None
    assert (read.end.kind, read.rows.num_rows) == ("clean", len(segment.rows))
    if all(row.get("update") is not None for row in segment.rows):
        parquet, seal = sealed_file(segment.data)
        assert is_same(read.rows, parquet)
        assert check_seal(seal, segment.identity.segment, "it") == seal


@OFTEN
@given(record=strategies.run_headers() | strategies.attempts() | strategies.seals() | strategies.repairs())
def test_records_are_read_as_written(
    record: RunHeader | Attempt | Seal | Repair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every record that is drawn is one that our reader accepts, and comes back equal."""
    folder = tmp_path_factory.mktemp("record")
    path = folder / (attempt_name(record.attempt) if isinstance(record, Attempt) else "record.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(record.to_bytes())
    with Folder.at(folder) as held:
        if isinstance(record, Attempt):
            assert read_attempt(held, record.attempt) == record
            return
        assert type(record).read(held, path.name) == record
    if isinstance(record, Seal):
        assert check_seal(record, record.segment, "it") == record
    elif isinstance(record, Repair):
        assert len(record.parsed("it")) == len(record.losses)


_PECULIAR: dict[str, Callable[[dict[str, Any]], bool]] = {
    "NaN": lambda row: any(value != value for value in row.values()),
    "infinite": lambda row: any(value in (float("inf"), float("-inf")) for value in row.values()),
    "−0.0": lambda row: any(isinstance(value, float) and str(value) == "-0.0" for value in row.values()),
    "largest integer": lambda row: 2**63 - 1 in row.values(),
    "smallest integer": lambda row: -(2**63) in row.values(),
    "null": lambda row: len(row) < len(METRICS) / 2,
    "extra": lambda row: not row.keys() <= METRICS.keys(),
    "skipped": lambda row: row.get("skipped") is True,
}


@pytest.mark.slow
def test_rows_hold_what_hurts() -> None:
    """Among the rows that are drawn are all the values that a reader may trip over."""
    seen: set[str] = set()

    @settings(max_examples=300, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(strategies.payload_rows())
    def draw(row: dict[str, Any]) -> None:
        seen.update(name for name, is_so in _PECULIAR.items() if is_so(row))

    draw()
    assert seen == _PECULIAR.keys()


def test_missing_hypothesis_is_said_in_one_line(run_python: Any) -> None:
    """Where hypothesis is not installed, only the strategies are not there, and the error says what to install."""
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from esper_schemas.testing import bases, damages, golden\n"
        "import esper_schemas.testing.strategies"
    )
    ended = run_python(code)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "ImportError: esper_schemas.testing.strategies needs hypothesis: pip install hypothesis"
    )
    assert "golden" not in ended.stderr
