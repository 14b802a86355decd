from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.ledger import Ledger
from tests.crash.nursery import (
    ACKNOWLEDGED,
    CLOSING,
    OPENING,
    PHASE,
    PHASES,
    RECORDING,
    REFUSED,
    Board,
    Nursery,
    record_gathered,
    record_rows,
)
from tests.crash.oracle import Found, Outcome, finish_case, rows_of

from esper_schemas import RankDirectory, RunDirectory, SealedSegment, read_segments

MAX_ROWS = 30_000  # of one run, before the next one is begun


@dataclass
class _Run:
    """A run whose writers are killed, one after the other.

    Attributes:
        found: what was read from it last.
        halfway: how many kills left which trace of work that was cut short.
    """

    nursery: Nursery
    root: Path
    rng: random.Random
    found: Found = field(default_factory=Found)
    sealed: Found = field(default_factory=Found)  # what the first `sealed_segments` of it hold
    sealed_segments: int = 0
    halfway: Counter[str] = field(default_factory=Counter)

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.root / "r"

    def kill_once(self, task: Callable[..., None] = record_rows) -> tuple[int, Outcome]:
        """Let a child record from where the rows end, kill it at a random moment, and read the run."""
        board = Board(self.root / "board")
        for place in (PHASE, ACKNOWLEDGED, REFUSED):
            board[place] = 0
        target, secs = self.rng.choice([(OPENING, 0.03), (RECORDING, 0.02), (RECORDING, 0.1), (CLOSING, 0.04)])
        segment_rows = self.rng.choice([3, 20, 300, 8192])
        first = self.found.updates[-1] + 1 if self.found.updates else 0
        pid = self.nursery.start(
            task,
            root=str(self.root),
            run_id="r",
            board=str(self.root / "board"),
            first=first,
            count=min(segment_rows * 2 + 2, 700) if target == CLOSING else min(segment_rows * 10, 5000),
            segment_rows=segment_rows,
        )
        while board[PHASE] < target:
            time.sleep(0.0001)
        time.sleep(self.rng.uniform(0, secs))
        self.nursery.kill(pid)
        phase = board[PHASE]
        self._look_for_halves(RunDirectory(self.path).rank(0))

        acknowledged = range(first, max(first, board[ACKNOWLEDGED]))
        earlier, self.found = self.found, self._read()
        outcome = Outcome(len(acknowledged), self.found.lost([*earlier.updates, *acknowledged]), self.found.wrong)
        unasked = len(self.found.updates) - len(earlier.updates) - len(acknowledged)
        checks = {
            "rows have left or joined in the middle": self.found.updates[: len(earlier.updates)] == earlier.updates,
            "updates do not follow each other": self.found.updates == self.found.seqs,
            "sequence numbers are missing": not self.found.missing and not self.found.dropped,
            # One may be written and not yet said; those refused while the disk was slow are written later.
            f"{unasked} rows more than were acknowledged": unasked <= 1 + board[REFUSED],
            f"faults: {self.found.faults}": all("torn" in fault for fault in self.found.faults),
        }
        outcome.complaints = [words for words, holds in checks.items() if not holds]
        return phase, outcome

    def _read(self) -> Found:
        """What the run holds now; sealed segments are immutable, and read again only at the end."""
        rank = RunDirectory(self.path).rank(0)
        found = self.sealed.copy()
        for segment in read_segments(rank, self.sealed_segments):
            if (table := rows_of(segment, found.faults)) is None:
                continue
            found.add(table)
            if isinstance(segment, SealedSegment) and segment.number == self.sealed_segments:
                self.sealed_segments += 1
                self.sealed = found.copy()
        return found

    def _look_for_halves(self, rank: RankDirectory) -> None:
        """Note what the kill left, so that a test can tell whether every step was hit."""
        numbers = [int(path.stem) for path in rank.active_folder.glob("*.arrows")]
        traces = {
            "a file written aside": bool([*rank.path.rglob("*.tmp")]),
            "a seal without its segment": any(rank.seal_path(n).exists() for n in numbers),
            "a segment both active and sealed": any(rank.sealed_path(n).exists() for n in numbers),
            "several active segments": len(numbers) > 1,
        }
        for trace, is_there in traces.items():
            self.halfway[trace] += is_there


def test_kill_loop(disk: Path, memory: Path, nursery: Nursery, ledger: Ledger, is_long: bool) -> None:
    """A thousand writers, killed while they open, recover, record, rotate, seal or close, have lost no row.

    Half of the runs are on a disk, half in memory, where sealing takes a smaller part of the time.
    """
    kills = 1000 if is_long else 15
    rng = random.Random(8)
    lines = {phase: ledger.begin(f"SIGKILL while {PHASES[phase]}") for phase in (OPENING, RECORDING, CLOSING)}
    end = ledger.begin("runs of killed writers: reopened, recorded on, read")
    halfway = Counter[str]()
    done = 0
    traces = ("a file written aside", "several active segments")
    while done < kills or not all(halfway[trace] for trace in traces):
        root = (disk if end.states % 2 else memory) / f"run-{end.states}"
        root.mkdir()
        run = _Run(nursery, root, rng, halfway=halfway)
        for _ in range(min(40, max(5, kills - done))):
            began = time.perf_counter()
            phase, outcome = run.kill_once()
            line = lines[min(max(phase, OPENING), CLOSING)]
            line.count(outcome, f"run {end.states}, kill {done}")
            line.secs += time.perf_counter() - began
            done += 1
            if len(run.found.updates) > MAX_ROWS:
                break
        began = time.perf_counter()
        end.count(finish_case(run.path, run.found.updates), f"run {end.states}")
        end.secs += time.perf_counter() - began
        shutil.rmtree(root)
    for line in [*lines.values(), end]:
        line.check()
    assert sum(line.states for line in lines.values()) == done
    print(halfway)


def test_writer_that_gathers_rows_is_caught(memory: Path, nursery: Nursery, ledger: Ledger, is_long: bool) -> None:
    """The control: a writer that acknowledges rows before they are written loses some, and the oracle says so."""
    with ledger.line("control: SIGKILL, writer that gathers eight rows", must_fail=True) as line:
        for kill in range(200):
            root = memory / f"run-{kill}"
            root.mkdir()
            _, outcome = _Run(nursery, root, random.Random(kill)).kill_once(record_gathered)
            line.count(outcome, kill)
            if line.lost and kill >= (20 if is_long else 0):
                break
    line.check()
    assert line.lost
