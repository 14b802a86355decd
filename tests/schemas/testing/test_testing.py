from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esper_schemas import RunDirectory, SealedSegment, read_segments, testing
from esper_schemas.examining.run import verify_run
from esper_schemas.segment.scan import ActiveSegment
from esper_schemas.testing.damage import Address


class MyReader:
    """Our own reader in the shape that the example asks for."""

    def __init__(self, run: Path) -> None:
        self._run = RunDirectory(run)

    def rows(self) -> pa.Table:
        """All rows, by rank and sequence number."""
        tables = []
        for rank in self._run.ranks():
            for segment in read_segments(rank):
                if isinstance(segment, SealedSegment):
                    tables.append(pq.read_table(segment.path, partitioning=None))
                elif isinstance(segment, ActiveSegment) and segment.rows is not None:
                    tables.append(pa.Table.from_batches([segment.rows]))
        return pa.concat_tables(tables, promote_options="default")

    def faults(self) -> set[Address]:
        """Rank, segment and kind of each fault but notes."""
        found = ((fault.rank, fault.segment, fault.kind) for fault in verify_run(self._run).faults)
        return {fault for fault in found if fault[2] != "note"}


class BlindReader(MyReader):
    """A reader that sees no fault."""

    def faults(self) -> set[Address]:
        """Nothing."""
        return set()


class HastyReader(MyReader):
    """A reader that loses the sign of zero."""

    def rows(self) -> pa.Table:
        """All rows, with 0.0 in place of −0.0."""
        rows = super().rows()
        at = rows.schema.get_field_index("value_loss")
        values = [value + 0.0 if value is not None else None for value in rows.column(at).to_pylist()]
        return rows.set_column(at, "value_loss", pa.array(values, pa.float64()))


def _run_example(monkeypatch: pytest.MonkeyPatch, reader: type[MyReader]) -> None:
    document = str(testing.__doc__)
    example = textwrap.dedent(document[document.index("    from pathlib") : document.index("\n`rows()` returns")])
    module: Any = ModuleType("my_reader")
    module.MyReader = reader
    monkeypatch.setitem(sys.modules, "my_reader", module)
    exec(compile(example, "the example", "exec"), {})


def test_example_of_the_docstring_passes_a_sound_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example runs as it stands, with our own reader in place of another."""
    _run_example(monkeypatch, MyReader)


@pytest.mark.parametrize("reader", [BlindReader, HastyReader])
def test_example_of_the_docstring_fails_another(monkeypatch: pytest.MonkeyPatch, reader: type[MyReader]) -> None:
    """A reader that finds no faults, or changes a single bit, does not pass the example."""
    with pytest.raises(AssertionError):
        _run_example(monkeypatch, reader)


def test_testing_is_loaded_only_by_who_asks_for_it(run_python: Callable[..., Any]) -> None:
    """Neither the format nor recorder and analyzer load the module, and its damages load no hypothesis."""
    code = """
        import sys
        import esper_analyzer, esper_recorder, esper_schemas
        assert not [name for name in sys.modules if name.startswith("esper_schemas.testing")]
        from esper_schemas.testing import bases, damages, golden, segments
        assert "hypothesis" not in sys.modules
    """
    ended = run_python(textwrap.dedent(code))
    assert ended.returncode == 0, ended.stderr
