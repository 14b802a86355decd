"""Console output that was kept in a file: the tables of Stable-Baselines3 and its forebears, the blocks of rsl_rl."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from tests.recorder.importing.followed import followed, rows_of
from tests.recorder.importing.logs import balance, import_log, unpacked

SPINNING_UP = """Logging data to progress.txt
---------------------------------------
|             Epoch |               {epoch} |
|      AverageEpRet |            22.5 |
|            LossPi |       -1.23e-08 |
|             LossV |             218 |
|                KL |         0.00194 |
|  TotalEnvInteracts |           {steps} |
---------------------------------------
"""


def test_tables_have_the_numbers_of_the_other_logs(tmp_path: Path) -> None:
    """The same training as progress.csv and on the console, which shows three digits of most numbers."""
    names = ("sb3_cartpole_progress.csv", "sb3_cartpole_console.log")
    for name in names:
        done = import_log(unpacked(name, tmp_path), "--run-id", name, root=tmp_path / "runs")
        assert done.exit_code == 0, done.output
    assert balance(done)["trainer"] == "Stable-Baselines3"
    assert balance(done)["not imported"] == "other lines 2"
    assert balance(done)["not readable"] == "none"
    exact, printed = (rows_of(tmp_path / "runs" / name) for name in names)
    assert len(exact) == len(printed) == 58
    for row, shown in zip(exact, printed, strict=True):
        assert row.keys() == shown.keys()
        assert shown["env_steps"] == row["env_steps"]
        measured = {name: value for name, value in row.items() if value is not None}
        assert {name for name, value in shown.items() if value is not None} == measured.keys()
        for name, value in measured.items():
            assert shown[name] == pytest.approx(value, rel=6e-3, abs=1e-12), name


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: "".join(f"trainer-1  | {line}\n" for line in text.splitlines()).encode(),
        lambda text: text.replace("| train/", "\x1b[32m| train/").encode(),
        lambda text: "".join(f"\x1b[32m{line}\x1b[0m\n" for line in text.splitlines()).encode(),
        lambda text: text.replace("-\n|", "-\n\x1b[1;32m|").replace("|\n", "|\x1b[0m\n").encode(),
        lambda text: text.replace("\n-----", "\n 12%|██▌       | 12/100 [00:10<01:00]\r-----").encode(),
        lambda text: gzip.compress(text.encode()),
    ],
    ids=[
        "PowerShell",
        "docker compose",
        "colours",
        "colours throughout",
        "colours without rules",
        "progress bar",
        "gzip",
    ],
)
def test_what_else_is_on_a_line_does_not_matter(change: object, tmp_path: Path) -> None:
    """A launcher, a shell or a progress bar adds to the lines of a table."""
    assert callable(change)
    plain = unpacked("sb3_cartpole_console.log", tmp_path)
    other = tmp_path / "other.log"
    other.write_bytes(change(plain.read_text()))
    for log in (plain, other):
        done = import_log(log, "--run-id", log.stem, root=tmp_path / "runs")
        assert done.exit_code == 0, done.output
    assert repr(rows_of(tmp_path / "runs" / plain.stem)) == repr(rows_of(tmp_path / "runs" / "other"))


def test_a_table_that_does_not_end_is_none(tmp_path: Path) -> None:
    """A trainer that is killed while it prints leaves part of a table, whose update is left out and named."""
    whole = unpacked("sb3_cartpole_console.log", tmp_path).read_bytes()
    end = whole.index(b"| train/", whole.index(b"| 15360 "))
    torn = tmp_path / "slurm-1.out"
    torn.write_bytes(whole[: whole.index(b"\n", end + 100) + 1])
    done = import_log(torn, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "(torn: the table does not end)" in balance(done)["not readable"]
    assert len(rows_of(tmp_path / "runs" / "slurm-1.out")) == 28


def test_tables_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update comes with the rule below its table."""
    monkeypatch.setattr("esper_recorder.importing.following.POLL_SECS", 0.02)
    monkeypatch.setattr("esper_recorder.importing.following.QUIET_SECS", 0.2)
    whole = unpacked("sb3_cartpole_console.log", tmp_path).read_bytes()
    log, run = tmp_path / "live.log", tmp_path / "runs" / "r"
    half = whole.index(b"| train/", len(whole) // 2)
    log.write_bytes(whole[:half])
    with followed(log, run) as found:
        found.await_line("following")
        assert 20 < len(rows_of(run)) < 40
        with log.open("ab") as file:
            file.write(whole[half:])
        found.await_rows(58)
    assert found.account.unreadable.count == 0


def test_tables_of_spinning_up(tmp_path: Path) -> None:
    """Its keys are on the right of their column, and in no group."""
    log = tmp_path / "out.txt"
    log.write_text("".join(SPINNING_UP.format(epoch=epoch, steps=500 * (epoch + 1)) for epoch in range(3)))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "runs" / "out")
    assert [(row["epoch"], row["env_steps"], row["value_loss"]) for row in rows] == [
        (0, 500, 109.0),
        (1, 1000, 109.0),
        (2, 1500, 109.0),
    ]


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("rsl_rl, as printed", ("Mean value loss", "Mean surrogate loss", "Mean action std", "Total steps")),
        (
            "rsl_rl, as printed to 4.0",
            ("Mean value_function loss", "Mean surrogate loss", "Mean action noise std", "Total timesteps"),
        ),
        (
            "rsl_rl, as printed to 2.1",
            ("Value function loss", "Surrogate loss", "Mean action noise std", "Total timesteps"),
        ),
    ],
)
def test_blocks_of_rsl_rl(name: str, entries: tuple[str, ...], tmp_path: Path) -> None:
    """Each version has names of its own; a block ends with the time that is left, and one that does not is none."""
    value, surrogate, std, steps = entries
    block = (
        "#" * 80 + "\n\x1b[1m  Learning iteration {0}/300  \x1b[0m \n\n"
        f"{value:>39}: 0.5000\n{surrogate:>39}: -0.0100\n{std:>39}: 0.98\n"
        f"{'Mean reward':>39}: -5.50\n{'Mean episode length':>39}: 15.29\n{'Episode_Reward/alive':>39}: 0.9936\n"
        + "-" * 80
        + f"\n{steps:>39}: {{1}} \n{'Iteration time':>39}: 0.62s\n{'Time elapsed':>39}: 00:01:39\n"
    )
    end = f"{'ETA':>39}: 00:00:00\n\n"
    log = tmp_path / "train.log"
    log.write_text(
        "[INFO] started\n" + "".join(block.format(n, 96 * (n + 1)) + end for n in range(3)) + block.format(3, 1)
    )
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["trainer"] == name
    assert "the block of an iteration does not end" in balance(done)["not readable"]
    rows = rows_of(tmp_path / "runs" / "train")
    assert [(row["iteration"], row["env_steps"]) for row in rows] == [(0, 96), (1, 192), (2, 288)]
    row = rows[0]
    assert (row["value_loss"], row["policy_loss"], row["policy_std"]) == (0.25, -0.01, 0.98)
    assert (row["episode_return_sliding_mean"], row["episode_length_sliding_mean"]) == (-5.5, 15.29)
    assert (row["Episode_Reward/alive"], row["secs_per_iteration"]) == (0.9936, 0.62)


def test_a_table_of_something_else_is_no_log_of_a_ppo(tmp_path: Path) -> None:
    """The error names the keys that it has."""
    log = tmp_path / "notes.txt"
    log.write_text("---------\n| a | 1 |\n---------\n")
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "found 1 key and neither (a)" in done.stderr


def test_console_output_of_cleanrl_has_no_losses(tmp_path: Path) -> None:
    """A warning with commas makes no table of it; beside the event files, it does not hide them."""
    training = tmp_path / "training"
    (training / "runs" / "CartPole-v1__ppo__1").mkdir(parents=True)
    log = training / "console.log"
    log.write_text(
        "parsers.py:365: UserWarning: The field `a` is annotated with `int`, but its default is `None`, as found\n"
        "global_step=22, episodic_return=[22.]\nSPS: 512\n"
    )
    done = import_log(log, root=tmp_path / "out")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "found the console output of CleanRL, which has no losses" in done.stderr
    unpacked("cleanrl_ppo_cartpole_gym029.tfevents", training / "runs" / "CartPole-v1__ppo__1")
    done = import_log(training, root=tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(rows_of(tmp_path / "out" / "training")) == 195
