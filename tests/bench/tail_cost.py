"""What `esper-analyze tail` of a long run costs: until the screen is there, and then while rows come in or not.

Beside it stands an empty Textual application, which is the floor. In a real pseudo-terminal; Linux only, since the
processor time of another process is read from /proc.

Usage: python tests/bench/tail_cost.py [updates] [secs]   (default 1,000,000 updates, each rate watched for 30 s)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pexpect
from read_cost import write_run

ROWS, COLUMNS = 40, 120
RATES = (0.5, 2.0, 20.0)
FLOOR = "from textual.app import App; App().run()"
WRITER = textwrap.dedent(
    """
    import random, sys, time
    from esper_recorder import Recorder

    first, rate = int(sys.argv[2]), float(sys.argv[3])
    with Recorder.open(sys.argv[1], run_id="long", resume="must") as recorder:
        for update in range(first, 2 * first):
            recorder.record(update=update, policy_loss=-0.01, value_loss=1.0 + random.random(), entropy=1.0,
                            kl_divergence=0.01, clip_fraction=0.1, explained_variance=0.8)
            time.sleep(1 / rate)
    """
)


class Screen:
    """A command in a pseudo-terminal of 120×40 cells."""

    def __init__(self, command: list[str]) -> None:
        self._began = time.perf_counter()
        self._text = ""
        self._seen = threading.Condition()
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self._process = pexpect.spawn(
            command[0], command[1:], dimensions=(ROWS, COLUMNS), env=environment, encoding="utf-8"
        )
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        while True:
            try:
                text = self._process.read_nonblocking(65536, timeout=None)
            except (pexpect.EOF, OSError):
                return
            with self._seen:
                self._text += text
                self._seen.notify_all()

    def secs_until(self, pattern: str, limit: float = 120.0) -> float:
        """Seconds from the start until this was written to the terminal."""
        with self._seen:
            if not self._seen.wait_for(lambda: re.search(pattern, self._text), limit):
                raise SystemExit(f"{pattern!r} did not come within {limit:.0f} s")
        return time.perf_counter() - self._began

    def share_of_core(self, secs: float) -> float:
        """Processor time used from now on, as a share of one core."""
        before = self._cpu_secs()
        time.sleep(secs)
        return (self._cpu_secs() - before) / secs

    def _cpu_secs(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the command."""
        self._process.sendintr()
        time.sleep(1.0)
        self._process.close(force=True)


@contextmanager
def written(root: Path, first: int, rate: float) -> Iterator[None]:
    """While the run gets `rate` rows per second, from update `first` on."""
    command = [sys.executable, "-c", WRITER, str(root), str(first), str(rate)]
    writer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        writer.kill()
        writer.wait()


def main() -> None:
    """Write a run, watch it, print one table."""
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    secs = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_run(root, updates)
        tail = [str(Path(sys.executable).parent / "esper-analyze"), "tail", "--root", place, "--run", "long"]
        floor = Screen([sys.executable, "-c", FLOOR])
        print(f"{'an empty Textual application':44} {floor.secs_until(chr(27)):8.2f} s")
        print(f"{f'tail of {updates:,} updates: heading and last values':44} {seen(tail, 'update [0-9]+'):8.2f} s")
        print(f"{'chart of the whole course':44} {seen(tail, '[┤┼]'):8.2f} s")
        print(f"{'verdict':44} {seen(tail, 'Verdict +.*(healthy|warning|critical|unknown)'):8.2f} s")
        print(f"\n{'share of one core':44}")
        print(f"{'an empty Textual application':44} {100 * floor.share_of_core(secs):8.1f} %")
        floor.close()
        for index, rate in enumerate((0.0, *RATES)):
            with written(root, (index + 1) * 2 * updates, rate) if rate else nullcontext():
                time.sleep(2.0 if rate else 0.0)
                screen = Screen(tail)
                screen.secs_until("Verdict +.*(healthy|warning|critical|unknown)")
                time.sleep(3.0)
                print(f"{f'tail, {rate:g} rows per second':44} {100 * screen.share_of_core(secs):8.1f} %", flush=True)
                screen.close()


def seen(command: list[str], pattern: str, rounds: int = 3) -> float:
    """Median seconds until this is on the screen."""
    found = []
    for _ in range(rounds):
        screen = Screen(command)
        found.append(screen.secs_until(pattern))
        screen.close()
    return sorted(found)[rounds // 2]


if __name__ == "__main__":
    main()
