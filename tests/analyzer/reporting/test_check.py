from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.analyzer.reporting.checked import BAD, COMMAND, FINE, KL_HIGH, WORN, check_apart, damage
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_analyzer.judging.settings import read_settings
from esper_analyzer.reporting.check import Check, check_report
from esper_schemas.errors import NotARunError, UsageError

Rows = Iterable[dict[str, Any]]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(command: Command) -> Command:
    """Run `esper-analyze check` in this process."""
    return partial(command, "check")


# ---------------------------------------------------------------------- exit codes, by the real command


@pytest.mark.parametrize(
    ("rows", "arguments", "code"),
    [
        (FINE, [], 0),
        (FINE, ["--fail-on", "warning"], 0),
        (BAD, [], 1),
        (WORN, [], 0),
        (WORN, ["--fail-on", "warning"], 1),
        (FINE[:4], ["--fail-on", "warning"], 0),
        (FINE, ["--gate", "explained_variance,kl_divergence"], 0),
        (KL_HIGH, ["--gate", "explained_variance,kl_divergence"], 1),
        (KL_HIGH, ["--gate", "explained_variance"], 0),
        ([], [], 2),
        (FINE, ["--gate", "entropy"], 2),
        (FINE, ["--gate", "explained_varience"], 2),
        (FINE, ["--gate", "explained_variance,"], 2),
        (FINE, ["--fail-on", "healthy"], 2),
    ],
)
def test_every_exit_code(
    check: Command, record: Callable[..., Path], rows: Rows, arguments: list[str], code: int
) -> None:
    """0 fine or too little to tell, 1 the level is reached, 2 wrong usage or nothing to check; never a traceback."""
    done = check("--run", record(rows), *arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 2:
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.stderr == ""
        assert done.stdout.splitlines()[0].startswith(("passed: ", "failed: ", "unknown: "))


def test_damage_wins(check: Command, record: Callable[..., Path], tmp_path: Path) -> None:
    """Damaged data exits 3, though the verdict has failed, and though a gate was never recorded; all formats say so."""
    path = record(BAD, segment_rows=20)
    damage(path)
    for arguments in ([], ["--gate", "entropy"], ["--fail-on", "warning"]):
        assert check("--run", path, *arguments).returncode == 3
    text = check("--run", path).stdout
    assert text.startswith("damaged: ")
    assert "rank 0, segment 0" in text
    assert json.loads(check("--run", path, "--format", "json").stdout)["exit_code"] == 3
    lines = check("--run", path, "--format", "github").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["::error", "::error"]
    only = record(FINE, "only", segment_rows=100)
    damage(only)
    assert check("--run", only).returncode == 3


def test_a_torn_end_is_no_damage(writer: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """A write that was cut short by a crash is listed, and fails nothing."""
    process = writer()
    assert process.stdin is not None
    assert process.stdout is not None
    for update in range(20):
        print(update, file=process.stdin, flush=True)
        process.stdout.readline()
    process.kill()
    process.wait()
    path = tmp_path / "runs" / "run"
    active = path / "rank-0000" / "active" / "00000000.arrows"
    active.write_bytes(active.read_bytes()[:-10])
    made = report_of(path)
    assert (made.integrity.outcome, made.exit_code) == ("passed", 0)
    assert made.integrity.reasons[0].startswith("torn: rank 0, segment 0, offset ")


def test_what_is_not_there(check: Command, tmp_path: Path, record: Callable[..., Path]) -> None:
    """No run, no folder, a header that cannot be read, a file that cannot be written: one line and the right code."""
    path = record(FINE)
    for arguments in (
        ["--run", "absent", "--root", tmp_path],
        ["--root", tmp_path / "nowhere"],
        ["--run", path, "--rank", "7"],
        ["--run", path, "-o", tmp_path / "nowhere" / "check.xml"],
        ["--run", path, "--thresholds", tmp_path / "absent.toml"],
    ):
        done = check(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
    (path / "run.json").write_text("{")
    assert check("--run", path).returncode == 3


@pytest.mark.slow
def test_in_a_shell_pipeline(record: Callable[..., Path], tmp_path: Path) -> None:
    """The exit code steers `&&`, `||` and `pipefail`, and standard output is JSON alone."""
    record(FINE, "fine")
    record(BAD, "bad")
    script = f"""
        set -o pipefail
        check() {{ {sys.executable} -m esper_analyzer check --root "{tmp_path}/runs" "$@"; }}
        check --run fine > /dev/null && echo fine-goes-on
        check --run bad > /dev/null || echo "bad-stops $?"
        check --run bad --format json | {sys.executable} -m json.tool > "{tmp_path}/bad.json"; echo "pipe $?"
        check --format json 2> "{tmp_path}/talk" | {sys.executable} -m json.tool > "{tmp_path}/latest.json"
        if check --run fine --gate kl_divergence > /dev/null; then echo gate-holds; fi
        check --run absent 2> /dev/null || echo "absent $?"
        check --run bad | true; echo "closed ${{PIPESTATUS[0]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=HANG_SECS, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "fine-goes-on",
        "bad-stops 1",
        "pipe 1",
        "gate-holds",
        "absent 2",
        "closed 1",
    ]
    assert json.loads((tmp_path / "bad.json").read_text())["run"]["run_id"] == "bad"
    assert json.loads((tmp_path / "latest.json").read_text())["outcome"] == "failed"
    assert (tmp_path / "talk").read_text().startswith("latest run: ")


def test_a_file_takes_the_place_of_standard_output(check: Command, record: Callable[..., Path], tmp_path: Path) -> None:
    """With -o the document is in the file, one line on standard error says how it went, and the code is the same."""
    path, file = record(BAD), tmp_path / "check.xml"
    done = check("--run", path, "--format", "junit", "-o", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("failed: run is critical")
    assert len(done.stderr.splitlines()) == 1
    assert file.read_text(encoding="utf-8") == check("--run", path, "--format", "junit").stdout


def test_an_output_that_knows_ascii_only(check: Command, record: Callable[..., Path]) -> None:
    """Each format can be written where there is nothing but ASCII, in a process of its own, too.

    A header of another run is damage.
    """
    path = record(BAD)
    header = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**header, "run_id": "Größe µ"}))
    for form in ("text", "json", "junit", "github"):
        done = check("--run", path, "--format", form, encoding="ascii")
        assert done.returncode == 3, done.stderr
        assert done.stdout
    apart = check_apart("--run", path, "--format", "github", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (apart.returncode, apart.stdout) == (3, done.stdout)


@pytest.mark.parametrize(("rows", "code"), [(BAD, 1), (FINE, 0)])
def test_a_closed_pipe_keeps_the_exit_code(record: Callable[..., Path], rows: Rows, code: int) -> None:
    """A reader that has gone before anything was written changes nothing about the outcome."""
    path = record(rows)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "--run", str(path)], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=HANG_SECS, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, "")


# ---------------------------------------------------------------------- gates


def report_of(path: Path, **options: Any) -> Check:
    """The check of a run in this process."""
    return check_report(open_run(path).report(), **options)


def test_a_gate_looks_at_the_last_value_and_at_alerts(record: Callable[..., Path]) -> None:
    """A metric that is critical now fails, so does one that has just recovered while its alert lasts, and no other."""
    path = record(KL_HIGH)
    gate = report_of(path, gates=["kl_divergence"]).gates[0]
    assert (gate.level, gate.outcome, gate.value) == ("critical", "failed", 0.5)
    assert (
        gate.reasons[0] == "The last value is 0.5, critical (warning > 0.015; critical > 0.03; not finite is critical)."
    )
    assert gate.reasons[1].startswith("Critical alert in force: KL divergence is 0.5 (> 0.03) since update 41.")

    rows = [*KL_HIGH, {"update": 60, "kl_divergence": 0.01}]
    gate = report_of(record(rows, "recovering"), gates=["kl_divergence"]).gates[0]
    assert (gate.outcome, gate.value) == ("failed", 0.01)
    assert gate.reasons[0].startswith("The last value is 0.01, healthy")

    rows += [{"update": update, "kl_divergence": 0.01} for update in range(61, 75)]
    gate = report_of(record(rows, "recovered"), gates=["kl_divergence"]).gates[0]
    assert (gate.outcome, gate.level) == ("passed", "healthy")


def test_a_gate_counts_before_the_warm_up_is_over(record: Callable[..., Path]) -> None:
    """Who gates a metric means its value: it fails where the verdict is still unknown."""
    made = report_of(record([{"update": 0, "kl_divergence": 0.5}]), gates=["kl_divergence"])
    assert (made.verdict.outcome, made.gates[0].outcome, made.outcome) == ("unknown", "failed", "failed")


def test_a_gate_fails_at_the_level_that_fails(record: Callable[..., Path]) -> None:
    """A warning passes until --fail-on says warning."""
    path = record([{**row, "explained_variance": 0.2} for row in FINE[:5]])
    assert report_of(path, gates=["explained_variance"]).exit_code == 0
    assert report_of(path, gates=["explained_variance"], fail_on="warning").exit_code == 1


def test_the_ratio_and_signals_can_be_gated(record: Callable[..., Path]) -> None:
    """Lv/Lp by its bands, a signal by its alerts in force; a signal without its metrics was never recorded."""
    path = record([{**row, "policy_loss": 0.0001} for row in FINE])
    gate = report_of(path, gates=["loss_ratio"]).gates[0]
    assert gate.outcome == "failed"
    assert gate.value == pytest.approx(1000.0)
    rows = [*FINE, *({**FINE[0], "update": update, "value_loss": 40.0} for update in range(60, 80))]
    made = report_of(record(rows, "error"), gates=["critic_error"])
    assert (made.gates[0].outcome, made.gates[0].value) == ("failed", None)
    assert report_of(path, gates=["critic_error"]).gates[0].outcome == "passed"
    with pytest.raises(UsageError, match="clipped_in_bulk was never recorded"):
        report_of(path, gates=["clipped_in_bulk"])


def test_a_value_that_is_not_defined_is_unknown(record: Callable[..., Path]) -> None:
    """Explained variance of constant returns is NaN: neither passed nor failed, and no reason to fail."""
    gate = report_of(record([{"update": 0, "explained_variance": math.nan}]), gates=["explained_variance"]).gates[0]
    assert (gate.outcome, gate.level) == ("unknown", "unknown")
    assert gate.reasons[0].startswith("The last value is NaN, unknown")


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("explained_varience", "there is no metric or signal 'explained_varience'; did you mean 'explained_variance'?"),
        ("xyzzy", "there is no metric or signal 'xyzzy'; the choices are policy_loss, value_loss"),
        ("value_mean", "'value_mean' has no thresholds, so it could never fail"),
        ("mine", "'mine' has no thresholds, so it could never fail"),
        ("entropy", "entropy was never recorded in"),
    ],
)
def test_a_gate_that_could_never_fail_is_refused(record: Callable[..., Path], gate: str, said: str) -> None:
    """Unknown names, metrics without thresholds and metrics that were never recorded are errors, not passes."""
    path = record([{"update": 0, "value_mean": 0.5, "extras": {"mine": 1.0}}])
    with pytest.raises(UsageError) as raised:
        report_of(path, gates=["value_loss", gate])
    assert said in str(raised.value)


def test_an_empty_run_has_nothing_to_check(record: Callable[..., Path]) -> None:
    """No updates is no pass."""
    with pytest.raises(NotARunError, match="has no updates yet"):
        report_of(record([]))


def test_all_ranks_are_looked_at(check: Command, record: Callable[..., Path]) -> None:
    """With --rank all a gate fails by the worst rank, which is named, whichever rank has the last row."""
    record(KL_HIGH, world_size=2, rank=0)
    path = record(FINE, world_size=2, rank=1, resume="allow")
    done = check("--run", path, "--rank", "all", "--gate", "kl_divergence,explained_variance", "--format", "json")
    assert done.returncode == 1
    gates = json.loads(done.stdout)["gates"]
    assert gates["kl_divergence"]["value"] == 0.5
    assert all(reason.startswith("Rank 0: ") for reason in gates["kl_divergence"]["reasons"])
    assert gates["explained_variance"]["outcome"] == "passed"
    assert check("--run", path, "--rank", "1", "--gate", "kl_divergence").returncode == 0


def test_thresholds_of_the_user_move_a_gate(record: Callable[..., Path], tmp_path: Path) -> None:
    """A gate is held against the user's own bounds, and says which."""
    path, file = record(FINE), tmp_path / "mine.toml"
    file.write_text('[thresholds.kl_divergence]\nwarning = ""\ncritical = "> 0.001"\n')
    settings = read_settings(file)
    made = check_report(open_run(path, settings=settings).report(), gates=["kl_divergence"], settings=settings)
    assert made.gates[0].outcome == "failed"
    assert "(critical > 0.001; not finite is critical)" in made.gates[0].reasons[0]
    assert made.to_dict()["thresholds"] == str(file)


@pytest.mark.parametrize(("fail_on", "code"), [("critical", 0), ("warning", 0), ("unknown", 1)])
def test_a_verdict_that_is_unknown_fails_only_on_request(
    check: Command, record: Callable[..., Path], fail_on: str, code: int
) -> None:
    """With losses alone nothing says whether anything is learned; who wants to know that for sure asks for it."""
    rows = [{"update": i, "value_loss": 138.0 + i % 3, "policy_loss": -0.01} for i in range(60)]
    done = check("--run", record(rows, f"losses-{fail_on}"), "--fail-on", fail_on)
    assert done.returncode == code, done.stdout
    assert "record return_std or explained_variance" in " ".join(done.stdout.split())
