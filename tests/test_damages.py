"""Every reader against every row of the table of damages.

`python -m tests.test_damages` prints the table: which reader sees which damage.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from esper_analyzer import open_run
from esper_analyzer.cli import main as analyze
from esper_recorder.cli import main as rec
from esper_schemas import EsperError, RunDamagedError
from esper_schemas.examining.faults import HARMLESS
from esper_schemas.examining.segment import DEPTHS, Depth
from esper_schemas.testing.bases import BASES, Base, write_bases
from esper_schemas.testing.damage import Address, Damage
from esper_schemas.testing.damages import DAMAGES

pytestmark = pytest.mark.hostile

# ------------------------------------------------------------------ the readers


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader said: its exit code, and the addresses of all faults if it gives them."""

    exit_code: int
    faults: set[Address] | None = None


_FAULT_LINE = re.compile(r"^(?:  - )?(\w+): (?:no rank|rank (\d+))(?:, segment (\d+))?(?:, offset \d+)?:", re.MULTILINE)


def _invoke(command: click.Command, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _addresses(faults: Sequence[Mapping[str, Any]]) -> set[Address]:
    return {(fault["rank"], fault["segment"], fault["kind"]) for fault in faults}


def _in_lines(text: str) -> set[Address]:
    """The addresses in lines for people: `lost: rank 0, segment 2: …`."""
    found: list[Any] = _FAULT_LINE.findall(text)
    return {(int(rank) if rank else None, int(segment) if segment else None, kind) for kind, rank, segment in found}


def _verify(run: Path, _: Damage | None, __: Path) -> Answer:
    result = _invoke(rec, "verify", run, "--format", "json")
    return Answer(result.exit_code, _addresses(json.loads(result.stdout)["faults"]) if result.stdout else None)


def _report(run: Path, _: Damage | None, __: Path) -> Answer:
    result = _invoke(analyze, "report", "--run", run, "--rank", "all", "--format", "json")
    faults = _addresses(json.loads(result.stdout)["integrity"]["faults"]) if result.stdout else None
    return Answer(result.exit_code, faults)


def _report_text(run: Path, _: Damage | None, __: Path) -> Answer:
    result = _invoke(analyze, "report", "--run", run, "--rank", "all")
    return Answer(result.exit_code, _in_lines(result.stdout) if result.stdout else None)


def _check(run: Path, _: Damage | None, __: Path) -> Answer:
    result = _invoke(analyze, "check", "--run", run, "--rank", "all", "--format", "json")
    if not result.stdout:
        return Answer(result.exit_code)
    reasons: list[str] = json.loads(result.stdout)["integrity"]["reasons"]
    return Answer(result.exit_code, _in_lines("\n".join(reasons)))


def _compare(run: Path, damage: Damage | None, sound: Path) -> Answer:
    rank = damage.rank if damage else 0
    return Answer(_invoke(analyze, "compare", run, sound, "--rank", rank, "--by", "updates", "--no-group").exit_code)


def _explain(run: Path, damage: Damage | None, _: Path) -> Answer:
    rank = damage.rank if damage else 0
    return Answer(_invoke(analyze, "explain", run, "--rank", rank, "--update", 10).exit_code)


def _explain_two(run: Path, damage: Damage | None, sound: Path) -> Answer:
    return Answer(_invoke(analyze, "explain", sound, run, "--rank", damage.rank if damage else 0).exit_code)


def _tail(run: Path, damage: Damage | None, _: Path) -> Answer:
    return Answer(_invoke(analyze, "tail", "--once", "--run", run, "--rank", damage.rank if damage else 0).exit_code)


def _faults(run: Path, _: Damage | None, __: Path) -> Answer:
    try:
        found = open_run(run).faults()
    except EsperError as error:
        return Answer(3 if isinstance(error, RunDamagedError) else 2)
    is_damaged = any(fault.is_damage for fault in found)
    return Answer(3 if is_damaged else 0, {(fault.rank, fault.segment, fault.kind) for fault in found})


def _runs(run: Path, _: Damage | None, __: Path) -> Answer:
    return _in_overview(_invoke(analyze, "runs", "--root", run.parent))


def _runs_verify(run: Path, _: Damage | None, __: Path) -> Answer:
    return _in_overview(_invoke(analyze, "runs", "--root", run.parent, "--verify"))


def _in_overview(result: Result) -> Answer:
    """The line of a damaged run says so, or what is wrong with its header, and the exit code says the same."""
    if result.exit_code in (0, 3):
        _, line = result.stdout.splitlines()
        assert ("damaged" in line or "run.json" in line) == (result.exit_code == 3), line
    return Answer(result.exit_code)


@dataclass(frozen=True, slots=True)
class Reader:
    """A command, or a call, that says whether a run is damaged; it takes the run, the damage and a sound run."""

    name: str
    depth: Depth
    read: Callable[[Path, Damage | None, Path], Answer]
    gives_addresses: bool = True


READERS = (
    Reader("verify", "rows", _verify),
    Reader("report json", "checksums", _report),
    Reader("report text", "checksums", _report_text),
    Reader("check", "checksums", _check),
    Reader("compare", "checksums", _compare, gives_addresses=False),
    Reader("explain", "checksums", _explain, gives_addresses=False),
    Reader("explain two runs", "checksums", _explain_two, gives_addresses=False),
    Reader("tail --once", "checksums", _tail, gives_addresses=False),
    Reader("Run.faults()", "checksums", _faults),
    Reader("runs", "records", _runs, gives_addresses=False),
    Reader("runs --verify", "checksums", _runs_verify, gives_addresses=False),
)


# ------------------------------------------------------------------ what is wrong with an answer


def objections(answer: Answer, damage: Damage, reader: Reader, at_rest: Answer) -> list[str]:
    """What an answer should have said and did not, or said and should not have.

    Args:
        answer: what the reader said of the damaged run.
        damage: what was done to it.
        reader: the reader.
        at_rest: what it says of the run before it was damaged.
    """
    if damage.header == "gone" and reader.name not in ("verify", "report json", "report text"):
        allowed = {2, 3}  # without a header there is nothing to open
    elif damage.is_seen(reader.depth):
        allowed = {3}
    elif answer.faults is None:
        allowed = {0, 3} if damage.depth else {0}
    else:
        allowed = {3 if any(kind not in HARMLESS for _, _, kind in answer.faults) else 0}
    said = (
        [] if answer.exit_code in allowed else [f"exit code {answer.exit_code}, not {' or '.join(map(str, allowed))}"]
    )
    if answer.faults is None:
        return [*said, "nothing is shown"] if reader.gives_addresses and damage.header == "whole" else said
    return said + damage.objections(
        answer.faults,
        reader.depth,
        at_rest=at_rest.faults or (),
        lists_notes=reader.depth == "rows",  # who looks at everything lists notes, too
    )


class Workshop:
    """Damaged runs and what readers say of whole ones, each made once; readers write nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bases = write_bases(root)
        self.sound = self.bases["two ranks"]
        self._damaged: dict[str, Path] = {}
        self._at_rest: dict[tuple[str, str], Answer] = {}

    def damaged(self, damage: Damage) -> Path:
        """A copy of the run with the damage in it."""
        if damage.name not in self._damaged:
            self._damaged[damage.name] = damage.copy_to(self.root, self.bases)
        return self._damaged[damage.name]

    def at_rest(self, base: Base, reader: Reader) -> Answer:
        """What a reader says of a whole run."""
        key = (base, reader.name)
        if key not in self._at_rest:
            other = self.bases["killed" if self.bases[base] == self.sound else "two ranks"]
            self._at_rest[key] = reader.read(self.bases[base], None, other)
        return self._at_rest[key]

    def judge(self, damage: Damage, reader: Reader) -> list[str]:
        """What is wrong with what a reader says of a damaged run."""
        answer = reader.read(self.damaged(damage), damage, self.sound)
        return objections(answer, damage, reader, self.at_rest(damage.base, reader))


@contextmanager
def _workshop() -> Iterator[Workshop]:
    with tempfile.TemporaryDirectory() as folder:
        yield Workshop(Path(folder))


# ------------------------------------------------------------------ the tests


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The runs, recorded once."""
    with _workshop() as made:
        yield made


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_reader_sees_damage(damage: Damage, reader: Reader, workshop: Workshop) -> None:
    """A reader finds every fault that can be seen at its depth, at its address, and exits 3; and finds nothing else."""
    if said := workshop.judge(damage, reader):
        pytest.fail("; ".join(said), pytrace=False)


@pytest.mark.parametrize(
    "damage", [damage for damage in DAMAGES if damage.rows_left is not None], ids=lambda damage: damage.name
)
def test_report_shows_what_is_left(damage: Damage, workshop: Workshop) -> None:
    """A report leaves out a segment that is damaged or of another recording, and shows every other row."""
    result = _invoke(analyze, "report", "--run", workshop.damaged(damage), "--rank", "all", "--format", "json")
    rows = json.loads(result.stdout)["updates"]["rows"] if result.stdout else None
    if rows != damage.rows_left:
        pytest.fail(f"{rows} rows shown, {damage.rows_left} are left", pytrace=False)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@pytest.mark.parametrize("base", BASES)
def test_whole_run_is_found_whole(base: Base, reader: Reader, workshop: Workshop) -> None:
    """No reader finds damage in a run that was not damaged."""
    answer = workshop.at_rest(base, reader)
    assert answer.exit_code == 0
    assert {address for address in answer.faults or set() if address[2] != "note"} == set()


def test_table_names_each_damage_once() -> None:
    """Each row has a name of its own, and every depth has a damage that needs it."""
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES)
    assert {damage.depth for damage in DAMAGES} == {*DEPTHS, None}


def print_table() -> None:
    """Print which reader sees which damage: `+` as it should be, `-` not; then what is wrong."""
    wrong: list[str] = []
    with _workshop() as made:
        print(" " * 60, "depth     ", *(f"{i}" for i in range(len(READERS))))
        for damage in DAMAGES:
            marks = []
            for reader in READERS:
                said = made.judge(damage, reader)
                marks.append("-" if said else "+")
                wrong += [f"{damage.name} · {reader.name}: {'; '.join(said)}"] if said else []
            print(f"{damage.name:60} {damage.depth or 'no damage':10}", *marks)
    for number, reader in enumerate(READERS):
        print(f"{number}  {reader.name} ({reader.depth})")
    sys.stdout.writelines(f"{line}\n" for line in wrong)


if __name__ == "__main__":
    print_table()
