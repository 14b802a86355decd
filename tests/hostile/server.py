"""Commands in processes of their own, forked from one that has imported everything: they may hang, swell or die.

A child does several calls, one after the other. Each call is a tuple of text: a program and its arguments; the
programs are those of `PROGRAMS`. What a call left is an `Answer`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECS = 15.0
"""A child hangs that has taken so much processor time, or next to none for so long: its calls need a second or two."""

MEMORY_BYTES = 3 << 30
"""How much address space a child may take beside what it was born with, so that the machine survives a failure."""

ENOUGH_MB = 1000
"""No command on a small run needs so much memory, what was imported included."""

NOBODY = 65534

Call = Sequence[str | Path]

_ROOT = Path(__file__).parents[2]

_IMPORTED = (
    *("esper_analyzer.cli", "esper_analyzer.reporting.html", "esper_recorder.cli", "esper_recorder.keeping.repair"),
    *("esper_recorder.importing.command", "esper_recorder.train.command", "esper_schemas.examining.run"),
    *("plotext", "pyarrow.dataset", "rich._emoji_codes", "rich.progress", "torch._dynamo"),
)
"""What commands import when they first need it, and each child would import anew."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call left.

    Attributes:
        call: program and arguments.
        code: exit code; None if there was none.
        out, err: what it wrote.
        trouble: what no command should end in, such as a traceback or a hang; else empty.
        peak_mb: the most memory that its process had meanwhile; the imports alone are some 400.
    """

    call: tuple[str, ...]
    code: int | None
    out: str
    err: str
    trouble: str = ""
    peak_mb: int = 0

    @property
    def said(self) -> str:
        """Everything that it wrote."""
        return self.out + self.err

    @property
    def complaint(self) -> str:
        """Why this is no proper end of a command; empty if it is one."""
        if self.trouble:
            return f"{self.name}: {self.trouble}"
        if self.code not in (0, 1, 2, 3):
            return f"{self.name}: exit code {self.code}: {self.err[-500:]}"
        found = [word for word in ("Traceback", "panicked at") if word in self.said]
        return f"{self.name}: {found[0]} in its output" if found else ""

    @property
    def name(self) -> str:
        """The command without where the run is."""
        return " ".join(word for word in self.call if "/" not in word)


# ------------------------------------------------------------------ in the child


def _esper_rec(arguments: Sequence[str]) -> None:
    from esper_recorder.cli import main

    main(arguments, prog_name="esper-rec")


def _esper_analyze(arguments: Sequence[str]) -> None:
    from esper_analyzer.cli import main

    main(arguments, prog_name="esper-analyze")


def _ask_tools(arguments: Sequence[str]) -> None:
    """Ask each tool of the server for agents about the run `arguments[1]` in the folder `arguments[0]`, as `mcp` does.

    The exit code is 2 if one of them answers with an error, and 70 if that is a defect of Esper.
    """
    from esper_analyzer.serving.runs_folder import RunsFolder
    from esper_analyzer.serving.tools import TOOLS, call
    from esper_schemas.errors import EsperError

    root, run = arguments
    asked: dict[str, dict[str, object]] = {"runs": {}, "series": {"run": run, "metrics": ["value_loss"]}}
    code = 0
    try:
        folder = RunsFolder(Path(root))
        for name, tool in TOOLS.items():
            if name == "compare":  # it needs two runs of one folder
                continue
            text, is_error = call(tool, folder, asked.get(name, {"run": run}))
            print(text)
            code = max(code, 70 if is_error and "a defect of Esper" in text else 2 * is_error)
    except EsperError as error:
        print(ascii(str(error)), file=sys.stderr)
        code = 2
    sys.exit(code)


def _record(arguments: Sequence[str]) -> None:
    """Resume the run `arguments[1]` under `arguments[0]` as a script does, record the rest as updates, close."""
    from tests.waiting import PATIENT

    from esper_recorder import Recorder
    from esper_schemas.errors import EsperError

    exec(PATIENT, {})  # each row is to be acknowledged, however busy the machine is
    root, run_id, *updates = arguments
    try:
        with Recorder.open(root, run_id=run_id, resume="allow") as recorder:
            for update in map(int, updates):
                print(recorder.record(update=update, policy_loss=0.5, value_loss=float(update)))
    except (EsperError, OSError) as error:  # what `Recorder.open` documents
        print(ascii(str(error)), file=sys.stderr)
        sys.exit(2)


def _flock(arguments: Sequence[str]) -> None:
    """Take a shared lock on a file that can only be read, say whether it was had, and hold it for a while."""
    import fcntl

    path, secs = arguments
    try:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        print(type(error).__name__)
    else:
        print("locked", flush=True)
        time.sleep(float(secs))


def _train_until_killed(arguments: Sequence[str]) -> None:
    """Train as `esper-rec`, and die behind the row number `arguments[0]` and a black box, as by SIGKILL."""
    from esper_recorder import Recorder

    left, record = int(arguments[0]), Recorder.record

    def record_or_die(recorder: Recorder, *payload: Any, **values: Any) -> bool:
        nonlocal left
        is_safe = record(recorder, *payload, **values)
        left -= 1
        if left == 0:
            os._exit(not recorder.dump_black_box("a look"))
        return is_safe

    Recorder.record = record_or_die  # type: ignore[method-assign, assignment]
    _esper_rec(arguments[1:])


def _fuzz(arguments: Sequence[str]) -> None:
    """See `fuzzing.fuzz`."""
    from tests.hostile.fuzzing import fuzz

    fuzz(Path(arguments[0]), Path(arguments[1]), int(arguments[2]))


PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "esper-rec": _esper_rec,
    "esper-analyze": _esper_analyze,
    "ask-tools": _ask_tools,
    "record": _record,
    "flock": _flock,
    "train-until-killed": _train_until_killed,
    "fuzz": _fuzz,
}


class Capture:
    """Catches what a call writes, also where it passes Python by."""

    def __init__(self) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 — they live as long as the child

    @contextlib.contextmanager
    def installed(self) -> Iterator[list[str]]:
        """Gives a list that holds the two texts in the end."""
        said: list[str] = []
        before, kept = (sys.stdout, sys.stderr), [os.dup(1), os.dup(2)]
        for number, file in enumerate(self._files, 1):
            file.seek(0)
            file.truncate()
            os.dup2(file.fileno(), number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        try:
            yield said
        finally:
            sys.stdout, sys.stderr = before
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            for file in self._files:
                file.seek(0)
                said.append(file.read(1 << 24).decode("utf-8", "surrogateescape"))


def perform(call: Sequence[str], capture: Capture) -> Answer:
    """Do a call in this process."""
    code: int | None = 0
    trouble = ""
    with contextlib.suppress(OSError):  # where it cannot be, the peak is that of all calls until now
        Path("/proc/self/clear_refs").write_text("5")
    with capture.installed() as said:
        try:
            PROGRAMS[call[0]](call[1:])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:  # such as polars' PanicException, which is no Exception
            code, trouble = None, f"{type(error).__name__}: {str(error)[:300]} {_where(error)}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Answer(tuple(call), code, out=said[0], err=said[1], trouble=trouble, peak_mb=peak)


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "esper_" in frame.filename]
    return f"({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _do(job: dict[str, Any], capture: Capture) -> int:
    """Do the calls of a job, and write an answer a line; the peak of memory."""
    answers = os.open(job["answers"], os.O_WRONLY | os.O_CLOEXEC)
    os.chdir(job["cwd"])
    if job["uid"] not in (None, os.getuid()):
        for call in job["rehearsal"]:  # imports what a stranger may not read
            perform(call, capture)
        os.setgroups([])
        os.setgid(job["uid"])
        os.setuid(job["uid"])
        _die_with_parent()
    peak = 0
    for call in job["calls"]:
        answer = perform(call, capture)
        peak = max(peak, answer.peak_mb)
        os.write(answers, json.dumps(asdict(answer)).encode() + b"\n")
    os.close(answers)
    return peak


def _live(jobs: int, done: int) -> None:
    """Be a child: do one job after the other, and say when it is done."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    statm = Path("/proc/self/statm")
    born = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    resource.setrlimit(resource.RLIMIT_AS, (born + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _give_up_soon()
    _die_with_parent()
    capture = Capture()
    with open(jobs) as lines:
        for line in lines:
            peak = _do(json.loads(line), capture)
            os.write(done, b"swollen" if peak > ENOUGH_MB else b"done")


def _die_with_parent() -> None:
    """A child that hangs does not outlive a test run that is broken off; where the kernel knows how (Linux)."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, which a change of user takes back


def _give_up_soon() -> None:
    """A recorder whose run cannot be sealed says so at once, and not after ten seconds."""
    import esper_recorder.writing.background

    esper_recorder.writing.background.CLOSE_TIMEOUT_SECS = 0.2


class _Child:
    """A child, seen from the process that forked it."""

    is_swollen = False
    """Whether it did something that took so much memory that it may have kept much of it."""

    def __init__(self) -> None:
        (jobs, self._jobs), (self._done, done) = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._jobs)
            os.close(self._done)
            try:
                _live(jobs, done)
                os._exit(0)  # without what the parent would do at its end
            except BaseException:
                traceback.print_exc()
                os._exit(70)
        os.close(jobs)
        os.close(done)

    def do(self, job: str, patience: float) -> str:
        """How the child ended over a job; empty if it has done it and lives."""
        os.write(self._jobs, job.encode())
        began = since = time.monotonic()
        at_first = at_since = self._cpu_secs()
        while not select.select([self._done], [], [], 0.2)[0]:
            now, used = time.monotonic(), self._cpu_secs()
            if used - at_since > 0.02 * patience:
                since, at_since = now, used
            if now - since > patience or used - at_first > patience or now - began > 10 * patience:
                self.end()
                return "hangs"
        said = os.read(self._done, 10)
        self.is_swollen = said == b"swollen"
        return "" if said else f"ended with {self.end()}"

    def _cpu_secs(self) -> float:
        """Processor time that the child has taken; 0 where nobody says."""
        stat = Path(f"/proc/{self._pid}/stat")
        if not stat.exists():
            return 0.0
        user, system = stat.read_text().rsplit(")")[-1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        """Kill the child, if it has not ended; its exit code."""
        os.close(self._jobs)
        os.close(self._done)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _serve() -> None:
    """Let a child do each job that comes as a line: one of its own, or the one that did its user's job before."""
    for name in _IMPORTED:
        importlib.import_module(name)
    residents: dict[int | None, _Child] = {}
    for line in sys.stdin:
        job = json.loads(line)
        child = residents.pop(job["uid"], None) or _Child()
        end = child.do(line, job["patience"])
        if not end and child.is_swollen:
            child.end()
        elif not end:
            residents[job["uid"]] = child
        print(end, flush=True)
    for child in residents.values():
        child.end()
    os._exit(0)  # to take apart what was imported takes longer than some tests


# ------------------------------------------------------------------ in the test


class Server:
    """The process that children are forked from, seen from a test."""

    def __init__(self, folder: Path) -> None:
        self._answers = folder / "answers"
        self._answers.touch(0o666)
        self._answers.chmod(0o666)  # for children that are another user, too
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={name: text for name, text in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "NO_COLOR")},
            text=True,
        )

    def ask(
        self,
        *calls: Call,
        cwd: Path,
        uid: int | None = None,
        rehearsal: Sequence[Call] = (),
        patience: float = PATIENCE_SECS,
    ) -> list[Answer]:
        """Let a child do these calls; one answer each, as far as it came.

        Args:
            calls: programs with their arguments.
            cwd: folder that they run in.
            uid: user that they run as, if it is another one.
            rehearsal: calls that the child does before it becomes that user, to have imported everything.
            patience: seconds of processor time, or of doing nothing, after which the child hangs.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._answers.write_bytes(b"")
        job = {
            "calls": [[str(word) for word in call] for call in calls],
            "rehearsal": [[str(word) for word in call] for call in rehearsal],
            "cwd": str(cwd),
            "uid": uid,
            "patience": patience,
            "answers": str(self._answers),
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        end = self._process.stdout.readline().strip()
        answers = [self._answer(line) for line in self._answers.read_text().splitlines()]
        if len(answers) < len(calls):
            unanswered = tuple(str(word) for word in calls[len(answers)])
            answers.append(Answer(unanswered, None, "", "", trouble=end or "ended the server"))
        return answers

    @staticmethod
    def _answer(line: str) -> Answer:
        values = json.loads(line)
        return Answer(**{**values, "call": tuple(values["call"])})

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(60)


if __name__ == "__main__":
    _serve()
