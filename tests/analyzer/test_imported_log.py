"""The log of another trainer, watched, checked and reported on with one command."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.waiting import HANG_SECS, wait_until

from esper_analyzer.cli import main
from esper_analyzer.reading.imported_log import find_log
from esper_recorder import Recorder

DATA = Path(__file__).parents[1] / "recorder" / "importing" / "data"

TRAINER = """
import sys, time
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter(sys.argv[1])
for update in range(5):
    for number, key in enumerate(("value_loss", "policy_loss", "entropy", "approx_kl", "clipfrac")):
        writer.add_scalar(f"losses/{key}", 0.5 / (update + 1), 128 * (update + 1))
    writer.add_scalar("charts/SPS", 1000, 128 * (update + 1))
    writer.flush()
    print(time.time(), flush=True)
    sys.stdin.readline()
writer.close()
"""
"""A trainer that knows nothing of us. It says when it has flushed an update, and goes on to the next when told to."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary runs are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def analyze(*arguments: object) -> Result:
    """Run `esper-analyze` in this process; its import is a process of its own all the same."""
    return CliRunner().invoke(main, list(map(str, arguments)))


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start `esper-analyze`."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "esper_analyzer", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def imports_of(log: Path) -> list[int]:
    """The processes that import a log."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if b"esper_recorder" in words and str(log).encode() in words and state != "Z":
                found.append(int(entry.name))
    return found


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Path]:
    """A log that could still grow."""
    log = tmp_path / "growing.csv"
    shutil.copy(DATA / "lightning_metrics.csv", log)
    yield log
    for process in imports_of(log):
        os.kill(process, signal.SIGKILL)


@pytest.mark.slow
def test_a_training_that_knows_nothing_of_us_is_watched_live(tmp_path: Path, temporary: Path) -> None:
    """A row is on the screen soon after its flush, before the next one is computed; in the end nothing is left."""
    log = tmp_path / "log"
    log.mkdir()
    waits = []
    with (
        subprocess.Popen(
            [sys.executable, "-c", TRAINER, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as trainer,
        start("tail", log, "--wait") as screen,
    ):
        assert trainer.stdout is not None
        assert trainer.stdin is not None
        assert screen.stdout is not None
        for update in range(5):
            flushed = float(trainer.stdout.readline())
            assert screen.stdout.readline().startswith(f"update {update} ")
            waits.append(time.time() - flushed)
            trainer.stdin.write("\n")
            trainer.stdin.flush()
        print(f"from the flush to the screen: {', '.join(f'{wait:.2f}' for wait in waits[1:])} s")
        screen.send_signal(signal.SIGINT)
        _, err = screen.communicate(timeout=HANG_SECS)
    assert screen.returncode == 130
    assert f"{log} is the log of another trainer" in err
    assert (imports_of(log), list(temporary.iterdir())) == ([], [])


def test_the_import_ends_when_its_parent_is_killed(growing: Path, temporary: Path) -> None:
    """By SIGKILL, at which nobody can clean up: the import seals its run and ends all the same."""
    with start("tail", growing) as screen:
        assert screen.stdout is not None
        screen.stdout.readline()
        assert len(imports_of(growing)) == 1
        screen.kill()
        wait_until(lambda: imports_of(growing) == [], "the import goes on")
    (run,) = temporary.glob("*/growing")
    assert json.loads((run / "rank-0000" / "attempts" / "0000.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_a_log_that_is_removed_ends_the_screen_with_its_error(growing: Path, temporary: Path) -> None:
    """What was read is shown first; the line and the exit code are those of the import."""
    with start("tail", growing) as screen:
        assert screen.stdout is not None
        screen.stdout.readline()
        growing.unlink()
        out, err = screen.communicate(timeout=HANG_SECS)
    assert "update 194 " in out
    assert screen.returncode == 2
    assert f"esper-analyze: {growing} was removed while it was followed" in err.splitlines()[-1]


@pytest.mark.slow
def test_a_log_is_checked_and_reported_on(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the run that an import makes of it; RUN is a path or a name under --root, and --run says the same."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "sb3_lunar_progress.csv", "lunar.csv")
    checked = analyze("check", "lunar.csv", "--format", "json", "--gate", "explained_variance")
    assert checked.exit_code == 0
    first, *notes = checked.stderr.splitlines()
    assert first == (
        "lunar.csv is the log of another trainer: imported into a temporary run; to keep one, use esper-rec import"
    )
    assert [note[:24] for note in notes] == ["note: the rollout at ste"]
    assert json.loads(checked.stdout)["updates"]["rows"] == 29
    (tmp_path / "runs").mkdir()
    (tmp_path / "lunar.csv").rename(tmp_path / "runs" / "lunar.csv")
    reported = analyze("report", "--run", "lunar.csv", "--format", "json")
    assert json.loads(reported.stdout)["run"]["trainer"] == "Stable-Baselines3"
    assert "update 28" in analyze("tail", "lunar.csv", "--once").stdout
    explained = analyze("explain", "lunar.csv", "--update", "28", "--format", "json")
    assert json.loads(explained.stdout)["update"] == 28
    assert list(temporary.iterdir()) == []


def test_a_log_with_means_of_the_last_100_episodes_says_whether_the_policy_learned(
    tmp_path: Path, temporary: Path
) -> None:
    """What Stable-Baselines3 logs is enough: a return that rose is healthy, and one that fell for good is critical."""
    learned = json.loads(analyze("report", DATA / "sb3_lunar_progress.csv", "--format", "json").stdout)["verdict"]
    assert (learned["level"], learned["questions"]["learning"]["level"]) == ("healthy", "healthy")
    assert "The mean return of the last 100 episodes is" in learned["questions"]["learning"]["reason"]
    with (DATA / "sb3_lunar_progress.csv").open(newline="") as file:
        (first, *records) = csv.DictReader(file)
    course = [*range(20, 220, 4), *range(220, 20, -8), *[20] * 75]
    log = tmp_path / "progress.csv"
    with log.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        for i, mean in enumerate(course):
            steps = str(1024 * (i + 1))
            changed = {"rollout/ep_rew_mean": str(mean + i % 2), "time/total_timesteps": steps}
            writer.writerow((records[i % len(records)] if i else first) | changed)
    assert analyze("check", log).exit_code == 1
    fell = json.loads(analyze("report", log, "--format", "json").stdout)["verdict"]
    assert fell["questions"]["learning"]["level"] == "critical"
    assert fell["reasons"][0].startswith("The part of the return's gain that is lost")


@pytest.mark.parametrize("command", ["tail", "check", "report"])
def test_what_is_no_log_is_one_line(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text, nothing at all, a run that is named twice, and what `tensorboard --logdir` takes: a folder of logs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("hello\nworld\n")
    for folder in ("logs/b", "logs/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "progress.csv").write_text("a,b\n")
    twice = "give the run once, as RUN or with --run; found 'a' and 'b'"  # tail shows several
    for arguments, said in (
        (("a.txt",), "a.txt is not an Esper run (it has no run.json), nor a log that can be imported"),
        (("a", "--run", "b"), "no run b under runs" if command == "tail" else twice),
        (("nothing",), "no run nothing under runs"),
        (("logs",), "found none in this folder; pass one of the folders in it: a, b"),
    ):
        if command == "tail" and "--run" in arguments:
            continue  # it takes several runs
        done = analyze(command, *arguments)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert said in done.stderr


@pytest.mark.parametrize("where", ["logs", "logs/CartPole-v1", "logs/CartPole-v1/ppo", "exp"])
def test_the_only_log_in_a_folder_is_meant(where: str, tmp_path: Path, temporary: Path) -> None:
    """Trainers put the log of a training into folders of its own, below files about all trainings at times."""
    for folder in ("logs/CartPole-v1/ppo", "exp/trial_1"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(DATA / "sb3_learn_twice_progress.csv", tmp_path / folder / "progress.csv")
    (tmp_path / "exp" / "experiment_state.json").write_text('{"lr": 0.1}')
    (tmp_path / "exp" / "tuner.pkl").write_bytes(bytes(100))
    done = analyze("report", tmp_path / where, "--format", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["run"]["trainer"] == "Stable-Baselines3"


def test_a_return_that_stays_where_it_began_makes_no_run_healthy(tmp_path: Path, temporary: Path) -> None:
    """With a learning rate of 1, and a log that says nothing of the critic: what is not known is not healthy."""
    log = tmp_path / "train.log"
    log.write_bytes(gzip.decompress((DATA / "rsl_rl_pendulum_console.log.gz").read_bytes()))
    verdict = json.loads(analyze("report", log, "--format", "json").stdout)["verdict"]
    assert verdict["level"] == "unknown"
    assert "It has not risen beyond its noise yet." in verdict["reasons"][0]
    assert {name: answer["level"] for name, answer in verdict["questions"].items()} == {
        "mechanics": "healthy",
        "critic": "unknown",
        "learning": "unknown",
    }
    assert analyze("check", log).exit_code == 0
    assert analyze("check", log, "--fail-on", "unknown").exit_code == 1


def test_a_run_of_sacred_is_a_log(tmp_path: Path, temporary: Path) -> None:
    """It has a `run.json` as ours do, with other keys."""
    folder = tmp_path / "sacred" / "1"
    folder.mkdir(parents=True)
    state = dict.fromkeys(("artifacts", "experiment", "heartbeat", "host", "meta", "result", "start_time", "status"))
    (folder / "run.json").write_text(json.dumps(state))
    (folder / "metrics.json").write_bytes(gzip.decompress((DATA / "sacred_metrics.json.gz").read_bytes()))
    for log in (folder, folder / "metrics.json"):
        done = analyze("report", log, "--format", "json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["updates"]["rows"] == 58


def test_a_run_that_is_being_made_is_no_log(tmp_path: Path) -> None:
    """While a recorder makes the run that a tail waits for, its header is there under another name only."""
    run, log = tmp_path / "later", tmp_path / "log"
    (run / "rank-0000").mkdir(parents=True)
    log.mkdir()
    for folder in (run, log):
        (folder / "run.json.tmp").write_text("{")
    assert find_log("later", tmp_path) is None
    assert find_log("log", tmp_path) == log
    (run / "rank-0000" / "LOCK").write_text("")
    assert find_log("later", tmp_path) is None


def test_what_the_balance_says_of_the_numbers_is_said(tmp_path: Path, temporary: Path) -> None:
    """Two trainings in one log, a torn line: nobody who reads the report misses them."""
    log = tmp_path / "progress.csv"
    header, *lines = (DATA / "sb3_learn_twice_progress.csv").read_text().splitlines()
    log.write_text("\n".join([header, *lines, lines[-1][:5]]))
    done = analyze("report", log)
    assert done.exit_code == 0
    assert "not readable: line" in done.stderr
    assert "learn() was called again" in done.stderr
    assert "note: the value loss is an assumption" not in done.stderr  # the verdict has a remark on it
    assert "->" not in done.stderr


@pytest.mark.slow
def test_series_of_add_scalars_are_read(tmp_path: Path, temporary: Path) -> None:
    """Each is a folder in the folder; their points are put in the order of their times."""
    script = (
        "import sys; from torch.utils.tensorboard import SummaryWriter; writer = SummaryWriter(sys.argv[1])\n"
        "for step in range(1, 31):\n"
        "    writer.add_scalars('losses', {'value_loss': 1.0 * step, 'policy_loss': 0.1}, step)\n"
        "    writer.add_scalar('return', 1.0, step)\n"
        "writer.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "log")], check=True, timeout=HANG_SECS)
    done = analyze("report", tmp_path / "log", "--format", "json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["updates"]["rows"] == 30
    assert report["metrics"]["value_loss"]["last"] == 30.0
    assert "return" in done.stdout
    assert "not read" not in done.stderr


@pytest.mark.parametrize("part", ["run.json", "rank-0000", "rank-0000/attempts/0000.json"])
def test_a_part_of_a_run_is_no_log(part: str, tmp_path: Path, temporary: Path) -> None:
    """Who names a file in a run means the run, and is told so."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.5)
    done = analyze("report", tmp_path / "r" / part)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith(f"{part} is a part of the run {tmp_path / 'r'}; pass the run\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", [["check"], ["report"], ["explain"], ["tail", "--once"]])
def test_the_option_that_an_error_names_is_one_of_the_command(
    command: list[str], tmp_path: Path, temporary: Path
) -> None:
    """A loop of somebody's own has keys that nobody knows: the error says what to add, and adding it works."""
    log = tmp_path / "some.csv"
    log.write_text("vf_loss,pg_loss,reward_mean\n" + "".join(f"{1 / (i + 1)},0.1,{i}\n" for i in range(60)))
    done = analyze(*command, log)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--map vf_loss=value_loss --map pg_loss=policy_loss" in done.stderr
    named = ["--map", "vf_loss=value_loss", "--map", "pg_loss=policy_loss", "--map", "reward_mean=episode_return_mean"]
    done = analyze(*command, log, *named)
    assert done.exit_code == 0, done.stderr
    assert "vf_loss=value_loss" not in done.stderr
    assert "59" in done.stdout


def test_one_of_several_runs_in_a_log_is_chosen(tmp_path: Path, temporary: Path) -> None:
    """A table with a column of runs: the error names them, and `--source-run` chooses."""
    log = tmp_path / "table.csv"
    rows = [f"{run},{i},{loss},0.1\n" for run, loss in (("a", 0.25), ("b", 0.75)) for i in range(9)]
    log.write_text("".join(["run,step,value_loss,policy_loss\n", *rows]))
    done = analyze("report", log)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--source-run" in done.stderr
    for run, loss in (("a", 0.25), ("b", 0.75)):
        done = analyze("report", log, "--source-run", run, "--format", "json")
        assert json.loads(done.stdout)["metrics"]["value_loss"]["last"] == loss


@pytest.mark.parametrize("command", [["check"], ["report"], ["explain"], ["tail", "--once"]])
def test_a_run_is_not_read_as_a_log(command: list[str], tmp_path: Path) -> None:
    """Its fields have names already: options that would change nothing are refused."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.5)
    done = analyze(*command, tmp_path / "r", "--map", "a=value_loss")
    expected = "--map and --source-run say how the log of another trainer is read, found an Esper run; leave them out"
    assert (done.exit_code, done.stderr) == (2, f"esper-analyze: {expected}\n")


@pytest.mark.slow
def test_how_the_training_of_a_log_ended_is_unknown(tmp_path: Path, temporary: Path) -> None:
    """A log that SIGKILL ended has no mark of it: reports say imported, and when its last row is from."""
    log = tmp_path / "torchrl.tfevents"
    log.write_bytes(gzip.decompress((DATA / "torchrl_pendulum.tfevents.gz").read_bytes()))
    said = "The log ends at 2026-11-28 00:39 UTC; whether the training finished is unknown."
    for form in ("text", "markdown", "html"):
        assert said in " ".join(analyze("report", log, "--format", form).stdout.split()), form
    assert analyze("report", log).stdout.splitlines()[0].endswith("  imported")
    assert json.loads(analyze("report", log, "--format", "json").stdout)["run"]["is_imported"] is True
    assert "● imported" in analyze("tail", log, "--once").stdout


def test_a_log_that_has_no_times_says_so(tmp_path: Path, temporary: Path) -> None:
    """CSV of Stable-Baselines3 has no times."""
    done = analyze("report", DATA / "sb3_lunar_progress.csv")
    assert "The log has no times; whether the training finished is unknown." in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", ["compare {0} {0}", "replay {0}", "export --run {0} -o x.csv"])
def test_a_command_that_reads_no_logs_says_to_import_it_first(command: str) -> None:
    """The path is there, so nobody is told to pass a path."""
    log = DATA / "sb3_lunar_progress.csv"
    done = analyze(*command.format(log).split())
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"if it is the log of another trainer, use esper-rec import {log} first" in done.stderr
    assert "pass a path" not in done.stderr


@pytest.mark.parametrize("command", ["runs", "fleet"])
def test_a_log_is_no_folder_of_runs(command: str, tmp_path: Path) -> None:
    """A list of runs says what to do with a log, be it a file or a folder; what does not exist is none."""
    folder = tmp_path / "logs"
    folder.mkdir()
    shutil.copy(DATA / "sb3_lunar_progress.csv", folder)
    for log in (folder, folder / "sb3_lunar_progress.csv"):
        done = analyze(command, log)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert f"if it is the log of another trainer, use esper-rec import {log} first" in done.stderr
    assert "is not a folder of runs" in analyze(command, tmp_path / "nothing").stderr


@pytest.mark.parametrize(
    ("name", "levels"),
    [("sheeprl_cartpole.tfevents", {"healthy"}), ("torchrl_pendulum.tfevents", {"unknown", "healthy"})],
)
def test_a_sound_training_of_another_trainer_is_not_critical(
    name: str, levels: set[str], tmp_path: Path, temporary: Path
) -> None:
    """CartPole that is learned, and the beginning of Pendulum, which does not learn yet."""
    log = tmp_path / name
    log.write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
    assert json.loads(analyze("report", log, "--format", "json").stdout)["verdict"]["level"] in levels


def test_a_large_tree_without_a_log_is_not_searched_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names the folder of all projects by mistake is told so after some hundred folders."""
    for place in itertools.product("abcdefgh", repeat=4):
        tmp_path.joinpath(*place).mkdir(parents=True)
    listed: list[Path] = []
    list_folder = Path.iterdir

    def _list(folder: Path) -> Iterator[Path]:
        listed.append(folder)
        return list_folder(folder)

    monkeypatch.setattr(Path, "iterdir", _list)
    assert find_log(str(tmp_path), tmp_path) is None
    assert 50 < len(set(listed)) < 700
