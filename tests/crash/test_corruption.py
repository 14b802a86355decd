from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.crash.ledger import Ledger, Line
from tests.crash.oracle import Outcome, finish_case, row_of
from tests.live_runs import copy_live_run

from esper_recorder import Recorder
from esper_schemas import FormatVersionError, RunDamagedError
from esper_schemas.segment.active import RowLayout

ROWS = 50
PLAIN = [update for update in range(ROWS * 2) if update % 7 != 3][:ROWS]  # no extra: they share one segment


class _Image:
    """A run whose writer was killed while its one segment was active, to be broken in many ways.

    Attributes:
        data: bytes of the active file.
        layout: its layout.
        start: where its first row begins.
    """

    def __init__(self, folder: Path) -> None:
        recorder = Recorder.open(folder / "live", run_id="r", strict=True)
        for update in PLAIN:
            recorder.record(**row_of(update))
        self._path = copy_live_run(recorder.path, folder / "image", sealed=0)
        recorder.close()
        self._folder = folder
        self._active = Path("rank-0000", "active", "00000000.arrows")
        self.data = (self._path / self._active).read_bytes()
        layout = RowLayout.read(self.data)
        assert layout is not None
        self.layout = layout
        self.start = len(layout.header)
        self.row_bytes = layout.row_bytes

    def row(self, i: int) -> bytes:
        """The message of row `i`."""
        at = self.start + i * self.row_bytes
        return self.data[at : at + self.row_bytes]

    def whole_rows(self, data: bytes) -> int:
        """How many of the first rows a broken file still has, from comparing the bytes alone."""
        if not data.startswith(self.data[: self.start]):
            return 0
        rows = 0
        while rows < ROWS and data.startswith(self.row(rows), self.start + rows * self.row_bytes):
            rows += 1
        return rows

    def accepted(self, data: bytes) -> int:
        """How many rows the scan takes from a file of these bytes; every one of them is compared with what it was."""
        try:
            layout = RowLayout.read(data)
        except (RunDamagedError, FormatVersionError):
            return 0
        if layout is None:
            return 0
        rows, _ = layout.scan(data[len(layout.header) :], offset=len(layout.header), next_seq=layout.identity.first_seq)
        return rows

    def judge(self, data: bytes) -> Outcome:
        """Rows that the scan should have taken and did not, and the other way round."""
        rows, whole = self.accepted(data), self.whole_rows(data)
        return Outcome(acknowledged=whole, lost=max(0, whole - rows), wrong=max(0, rows - whole))

    def finish(self, data: bytes) -> Outcome:
        """Put the broken file in the run's place; read, reopen, record on, read again."""
        run = self._folder / "r"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self._path, run)
        (run / self._active).write_bytes(data)
        return finish_case(run, PLAIN[: self.whole_rows(data)])


@pytest.fixture
def image(memory: Path) -> _Image:
    """A killed run with 50 rows in its active file."""
    return _Image(memory)


def _flip(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_every_bit(image: _Image, ledger: Ledger, is_long: bool) -> None:
    """Whichever bit of the file is wrong, the rows before it are read, and the row that it is in never is.

    The scan takes one row after the other, so each flip is scanned in the row that it falls in, and in the header
    with the first row behind it; a sample is scanned in the whole file, and gone through with a recorder.
    """
    step = 1 if is_long else 293
    with ledger.line("every single bit flipped, 50-row active file") as bits:
        for at in range(0, 8 * image.start, step if is_long else 29):
            broken = bytearray(image.data[: image.start])
            broken[at // 8] ^= 1 << at % 8
            bits.count(Outcome(wrong=image.accepted(bytes(broken) + image.row(0))), at)
        for i in range(ROWS):
            _flip_row(image, i, step, bits)
    bits.check()
    assert not is_long or bits.states == 8 * len(image.data)
    with ledger.line("sampled flips: whole-file scan, reopen, record on") as line:
        rng = random.Random(1)
        for sample in range(1000 if is_long else 30):
            at = rng.randrange(8 * len(image.data)) if sample % 10 else rng.randrange(8 * image.start)
            broken = bytearray(image.data)
            broken[at // 8] ^= 1 << at % 8
            line.count(image.judge(bytes(broken)), at)
            if sample % 4 == 0:
                line.count(image.finish(bytes(broken)), at)
    line.check()


def _flip_row(image: _Image, i: int, step: int, line: Line) -> None:
    """Flip the bits of row `i`, each time scanning from that row to the beginning of the next one."""
    scan, offset = image.layout.scan, image.start + i * image.row_bytes
    broken = bytearray(image.row(i) + image.row(i + 1)[:8])
    as_promised = Outcome(acknowledged=i)
    for at in range(i % step, 8 * image.row_bytes, step):
        broken[at >> 3] ^= 1 << (at & 7)
        rows, end = scan(bytes(broken), offset=offset, next_seq=i)
        broken[at >> 3] ^= 1 << (at & 7)
        is_right = not rows and end.kind == "corrupt" and end.offset == offset
        line.count(as_promised if is_right else Outcome(i, wrong=max(1, rows)), (i, at))
    assert scan(bytes(broken), offset=offset, next_seq=i)[0] == 1  # unbroken it is taken


def test_every_truncation(image: _Image, ledger: Ledger, is_long: bool) -> None:
    """A file cut at any byte gives exactly the rows that are whole, and is never called corrupt."""
    step = 1 if is_long else 61
    with ledger.line("truncation at every byte, 50-row active file") as line:
        for length in range(0, image.start, step):
            line.count(Outcome(wrong=image.accepted(image.data[:length])), length)
        for length in range(image.start, len(image.data), step):
            i, rest = divmod(length - image.start, image.row_bytes)
            offset = length - rest
            rows, end = image.layout.scan(image.data[offset:length], offset=offset, next_seq=i)
            is_right = end.kind == ("torn" if rest else "clean") and end.offset == offset
            line.count(Outcome(i, wrong=rows, complaints=[] if is_right else [str(end)]), length)
    line.check()
    with ledger.line("sampled truncations: whole-file scan, reopen, record on") as line:
        rng = random.Random(2)
        lengths = [image.start + k * image.row_bytes + d for k in (0, 1, ROWS - 1) for d in (-1, 0, 1)]
        for length in [*lengths, *(rng.randrange(len(image.data)) for _ in range(250 if is_long else 3))]:
            line.count(image.judge(image.data[:length]), length)
            line.count(image.finish(image.data[:length]), length)
    line.check()


def _bursts(image: _Image) -> Iterator[bytes]:
    """2 to 600 neighbouring bytes replaced by other ones."""
    rng = random.Random(3)
    for _ in range(4000):
        at, length = rng.randrange(len(image.data)), rng.choice([2, 3, 4, 8, 64, 600])
        yield image.data[:at] + rng.randbytes(length)[: len(image.data) - at] + image.data[at + length :]


def _zero_filled_ends(image: _Image) -> Iterator[bytes]:
    """Everything from some byte on is zeros, with or without more of them."""
    for keep in range(0, len(image.data), 53):
        yield image.data[:keep] + bytes(len(image.data) - keep + keep % 3 * 4096)


def _holes(image: _Image) -> Iterator[bytes]:
    """Zeros somewhere in the middle."""
    rng = random.Random(4)
    for _ in range(2000):
        at, length = rng.randrange(len(image.data)), rng.choice([1, 8, 100, 4096, 20_000])
        hole = bytes(min(length, len(image.data) - at))
        yield image.data[:at] + hole + image.data[at + length :]


def _lost_sectors(image: _Image) -> Iterator[bytes]:
    """A sector of 512 or 4096 bytes never reached the disk: zeros, or what stood in another one."""
    rng = random.Random(5)
    for size in (512, 4096):
        for at in range(0, len(image.data), size):
            end = min(at + size, len(image.data))
            other = rng.randrange(0, len(image.data) - size)
            for content in (bytes(end - at), image.data[other:][: end - at], rng.randbytes(end - at), b""):
                yield image.data[:at] + content + image.data[end:]


def _swapped_rows(image: _Image) -> Iterator[bytes]:
    """Two whole messages in each other's place."""
    for i in range(ROWS):
        for j in range(i + 1, ROWS):
            rows = [image.row(k) for k in range(ROWS)]
            rows[i], rows[j] = rows[j], rows[i]
            yield image.data[: image.start] + b"".join(rows)


def _repeated_rows(image: _Image) -> Iterator[bytes]:
    """A message that stands again behind, or in place of, another one; a message that is missing."""
    for i in range(ROWS):
        rows = [image.row(k) for k in range(ROWS)]
        yield image.data[: image.start] + b"".join(rows[:i] + rows[i + 1 :])
        for j in range(0, ROWS, 7):
            yield image.data[: image.start] + b"".join([*rows[: i + 1], rows[j], *rows[i + 1 :]])
            yield image.data[: image.start] + b"".join([*rows[:i], rows[j], *rows[i + 1 :]])


WAYS: dict[str, Callable[[_Image], Iterator[bytes]]] = {
    "bursts of 2 to 600 bytes": _bursts,
    "zero-filled ends": _zero_filled_ends,
    "holes of zeros": _holes,
    "lost or misplaced 512- and 4096-byte sectors": _lost_sectors,
    "swapped messages": _swapped_rows,
    "missing, repeated and duplicated messages": _repeated_rows,
}


@pytest.mark.parametrize("way", WAYS)
def test_way_of_breaking(image: _Image, ledger: Ledger, is_long: bool, way: str) -> None:
    """However the bytes of an active file are broken, all rows before the fault are kept and no wrong one is read."""
    with ledger.line(way) as line:
        for i, data in enumerate(WAYS[way](image)):
            if not is_long and i % 45:
                continue
            line.count(image.judge(data), i)
            if i % (25 if is_long else 900) == 0:
                line.count(image.finish(data), i)
    line.check()


def test_scan_without_checksums_fails(
    image: _Image, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    """The control: a scan that looks at lengths and numbers only takes wrong rows, and the harness sees it."""

    def are_whole(self: RowLayout, block: memoryview) -> npt.NDArray[np.bool_]:
        return np.ones(len(block) // self.row_bytes, np.bool_)

    monkeypatch.setattr(RowLayout, "_are_whole", are_whole)
    with ledger.line("control: bit flips, scan without checksums", must_fail=True) as line:
        rng = random.Random(6)
        for _ in range(2000 if is_long else 100):
            at = rng.randrange(8 * image.start, 8 * len(image.data))
            line.count(image.judge(_flip(image.data, at // 8, at % 8)), at)
    line.check()
