"""Files that were changed by chance, or on purpose: every command ends by one of our exit codes."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from tests.hostile.folders import FILES, edit_json, reseal
from tests.hostile.ground import Ground, call
from tests.hostile.server import Call, Server
from tests.schemas.segment.page_headers import column, header_at

pytestmark = pytest.mark.hostile

SHORT = 40
LONG_SECS = 1500.0
"""The long form changes files for so long, however many seeds that is on this machine."""


def test_changed_files_end_in_our_errors_only(server: Server, recorded: Path, tmp_path: Path, is_long: bool) -> None:
    """Whatever is changed in the files of a run, no command ends in an error that is not ours."""
    found: list[str] = []
    kinds: Counter[str] = Counter()
    end = time.monotonic() + LONG_SECS
    for seed in count() if is_long else range(SHORT):
        if is_long and time.monotonic() > end:
            break
        folder = tmp_path / f"seed-{seed}"  # what failed is kept there
        (answer,) = server.ask(("fuzz", recorded, folder, str(seed)), cwd=tmp_path)
        complaints = [answer.complaint, *answer.out.splitlines()[1:]]
        if any(complaints):
            done = answer.out.splitlines()[:1] or ["not known"]
            found.append(f"seed {seed} ({done[0]}): {' | '.join(filter(None, complaints))}")
            kinds.update(filter(None, complaints))
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a recorder of an earlier seed may still hold files there
    common = "\n".join(f"{count} × {kind}" for kind, count in kinds.most_common(20))
    assert not found, f"{len(found)} seeds; the files are in {tmp_path}\n" + "\n".join(found[:40]) + f"\n\n{common}"


FIELDS = {
    "seal": (
        "segment",
        "attempt",
        "bytes",
        "rows",
        "first_seq",
        "last_seq",
        "first_update",
        "last_update",
        "rows_lost",
    ),
    "last attempt": ("attempt", "first_seq", "last_seq", "rows", "dropped_rows", "pid"),
    "run.json": ("world_size", "format"),
    "record of a black box": ("seq", "attempt", "minibatches", "bytes", "not_written"),
}


@pytest.mark.parametrize(("record", "field"), [(record, field) for record, names in FIELDS.items() for field in names])
def test_numbers_of_any_size(ground: Ground, record: str, field: str) -> None:
    """A number in a record may be beyond every type that it is read into."""
    for number in (-(2**63) - 1, 2**63, 10**30):
        ground.ask_about(
            lambda run, _, number=number: edit_json(run / FILES[record], **{field: number}),  # type: ignore[misc]
            ("report", "runs", "verify", "record"),
        )


@pytest.mark.parametrize("field", ["value_loss_definition", "config", "versions", "created", "trainer"])
def test_values_of_any_kind_in_the_header(ground: Ground, field: str) -> None:
    """What stands in a header may be of any kind, at the top and further down."""
    calls: list[Call] = []
    for value in (-1, 10**30, float("nan"), None, True, "9999", [1], {"a": None}, "\ud800\x00"):
        for put in (value, {"factor": value, "clipping": value, "assumed": value, "python": value, "seed": value}):
            run = ground.copy()
            edit_json(run / "run.json", **{field: put})
            calls += [call("runs", run), call("compare", run)]
    calls.append(call("report", run))
    ground.check(*ground.ask(*calls))


@pytest.mark.parametrize(
    "extras", [[1], [None], [[]], [{}], ["a", "a"], ["seq"], [""], ["\x00"], "text", {"a": 1}, 5, True]
)
def test_extras_of_a_seal_of_any_kind(ground: Ground, extras: object) -> None:
    """The names of the user's columns in a seal may be no names."""
    commands = ("report", "check", "runs", "tail --once", "verify", "replay", "compare", "repair", "record")
    ground.ask_about(lambda run, _: edit_json(run / FILES["seal"], extras=extras), commands)


def _with_changed_byte(ground: Ground, place: int) -> Path:
    """A copy of the run with another byte in its sealed file, of which the seal knows."""
    run = ground.copy()
    data = bytearray((run / FILES["sealed file"]).read_bytes())
    data[place] ^= 0x41
    (run / FILES["sealed file"]).write_bytes(data)
    reseal(run)
    return run


def test_every_page_of_a_sealed_file(ground: Ground, is_long: bool) -> None:
    """A changed byte anywhere in a sealed file, with a seal that fits, is a fault or another value, and no panic."""
    size = (ground.recorded / FILES["sealed file"]).stat().st_size
    calls: list[Call] = []
    for place in range(4, size, 1 if is_long else size // 40):
        run = _with_changed_byte(ground, place)
        calls.append(call("runs" if place % 2 else "report", run))
        if len(calls) == 40:
            ground.check(*ground.ask(*calls, patience=60))
            calls.clear()
    ground.check(*ground.ask(*calls, patience=60))


def test_every_byte_of_the_updates(ground: Ground) -> None:
    """What the rows are ordered by may decode to anything, to null, or to a panic of polars, which nobody sees."""
    data = (ground.recorded / FILES["sealed file"]).read_bytes()
    chunk = column(data, "update")
    start = chunk.data_page_offset + len(header_at(data, chunk.data_page_offset))
    calls: list[Call] = []
    for place in range(start, chunk.data_page_offset + chunk.total_compressed_size):
        run = _with_changed_byte(ground, place)
        calls += [call(command, run) for command in ("runs", "tail --once", "tail", "replay", "report")]
    ground.check(*ground.ask(*calls, patience=60))
