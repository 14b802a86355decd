"""`install()`: what is written to summary writers becomes the rows that an import of the log gives."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorboardX
import torch
from tests.recorder.importing.logs import import_log, unpacked
from torch.utils.tensorboard import SummaryWriter

from esper_analyzer import Run, open_run
from esper_recorder import Recorder
from esper_recorder.adapters.tensorboard import Recordings, install
from esper_recorder.importing.account import Account
from esper_recorder.importing.tfevents.reader import EventFiles, in_order

LOSSES = ("losses/value_loss", "losses/policy_loss", "losses/approx_kl", "losses/clipfrac")

Install = Callable[..., Recordings]


@pytest.fixture
def install_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install`, in an empty working directory; what it records is closed after the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    made: list[Recordings] = []

    def installing(**options: Any) -> Recordings:
        made.append(install(**options))
        return made[-1]

    yield installing
    for recordings in made:
        recordings.close()


def rows_of(run: Run | Path | str) -> list[dict[str, Any]]:
    """The updates of the default view."""
    found = run if isinstance(run, Run) else open_run(run)
    return found.updates().collect().to_dicts()


def write(writer: Any, step: int, **others: Any) -> None:
    """One update in CleanRL's tags; `charts/SPS` comes last."""
    for place, tag in enumerate(LOSSES):
        writer.add_scalar(tag, 0.1 + place + step, step)
    for name, value in others.items():
        writer.add_scalar(name.replace("__", "/"), value, step)
    writer.add_scalar("charts/SPS", 100, step)


def numbers(rows: Sequence[dict[str, Any]], ignored: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows without what differs between two recordings of the same numbers; NaN as text, to compare equal."""
    left_out = {"run_id", "seq", "attempt", "dropped_before", "rank", *ignored}
    return [
        {name: str(value) for name, value in sorted(row.items()) if name not in left_out and value is not None}
        for row in rows
    ]


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("cleanrl_ppo_cartpole_gym029.tfevents", SummaryWriter),
        ("sb3_lunar.tfevents", SummaryWriter),
        ("rsl_rl_two_learns", SummaryWriter),
        ("skrl_pendulum.tfevents", tensorboardX.SummaryWriter),
    ],
)
def test_a_real_log_that_is_written_again_gives_the_rows_of_its_import(
    name: str, writer: Any, tmp_path: Path, install_here: Install
) -> None:
    """Point by point, with the time of each: every column of every update, times included, is that of the import."""
    source = unpacked(name, tmp_path)
    assert import_log(source, "--run-id", "imported", root=tmp_path).exit_code == 0
    install_here()
    for path in in_order(list(source.iterdir()) if source.is_dir() else [source]):
        with writer("runs/written") as made:
            for batch in EventFiles([path]).points(lambda _read: None, Account()):
                for tag, step, time, value in zip(*batch[:4], strict=True):
                    made.add_scalar(tag, value, step, walltime=time)
    rows = rows_of("runs/written")
    assert numbers(rows) == numbers(rows_of(tmp_path / "imported"))
    run = open_run("runs/written")
    assert (run.status(), run.faults()) == ("finished", [])


def test_a_row_is_there_as_soon_as_its_update_is_whole(install_here: Install) -> None:
    """From the third update on with its last tag; a tag that comes late records the update again, and counts."""
    install_here()
    writer = SummaryWriter("runs/live")
    seen = []
    for step in range(1, 6):
        write(writer, step)
        seen.append(len(rows_of("runs/live")) if Path("runs/live/run.json").exists() else 0)
    assert seen == [0, 2, 3, 4, 5]  # the first update shows which tags belong to one
    writer.add_scalar("eval/return", 9.0, 5)
    assert "eval/return" not in rows_of("runs/live")[-1]
    write(writer, 6)
    rows = rows_of("runs/live")
    assert [row["update"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row.get("eval/return") for row in rows] == [None, None, None, None, 9.0, None]
    writer.close()


def test_every_kind_of_number_keeps_its_digits(install_here: Install) -> None:
    """Python and NumPy numbers, arrays and tensors of one element, NaN; the event file has seven digits of them."""
    install_here()
    third = 1 / 3
    given = [third, np.float64(third), np.array([third]), torch.tensor(third, dtype=torch.float64), True, np.nan]
    given.append(torch.tensor([third], dtype=torch.float64, requires_grad=True))
    with SummaryWriter("runs/kinds") as writer:
        for step, value in enumerate(given, start=1):
            write(writer, step, own=value)
    found = [row["own"] for row in rows_of("runs/kinds")]
    np.testing.assert_array_equal(found, [third, third, third, third, 1.0, np.nan, third])


def test_tags_of_rl_games(install_here: Install) -> None:
    """Its tags in its order, by tensorboardX as there: factor, counts and numbers are those of the dialect."""
    install_here()
    writer = tensorboardX.SummaryWriter("runs/Ant/summaries")
    for epoch in range(1, 4):
        frame = 4096 * epoch
        for tag in ("step_inference_rl_update_fps", "step_inference_fps", "step_fps", "rl_update_time", "step_time"):
            writer.add_scalar(f"performance/{tag}", 0.5, frame)
        for tag, value in (("a_loss", -0.25), ("c_loss", 3.0), ("entropy", 8.0)):
            writer.add_scalar(f"losses/{tag}", torch.tensor(value), frame)
        for tag, value in (("last_lr", 3e-4), ("lr_mul", 1.0), ("e_clip", 0.2), ("kl", 0.01), ("epochs", epoch)):
            writer.add_scalar(f"info/{tag}", value, frame)
        for tag in ("rewards", "shaped_rewards", "episode_lengths"):
            for unit, at in (("step", frame), ("iter", epoch), ("time", 5 * epoch)):
                writer.add_scalar(f"{tag}/{unit}", 7.0, at)
    writer.close()
    run = open_run("runs/Ant/summaries")
    rows = rows_of(run)
    assert [(row["update"], row["env_steps"], row["epoch"]) for row in rows] == [
        (number, 4096 * number, number) for number in (1, 2, 3)
    ]
    row = rows[-1]
    assert (row["value_loss"], row["policy_loss"], row["entropy"]) == (1.5, -0.25, 8.0)
    assert (row["learning_rate"], row["clip_range"], row["kl_of_trainer"]) == (3e-4, 0.2, 0.01)
    assert (row["episode_return_sliding_mean"], row["update_secs"]) == (7.0, 0.5)
    assert run.header.trainer == "rl_games"


def test_tags_without_losses_make_no_run(install_here: Install) -> None:
    """LeanRL's PPO logs no losses, and a writer for evaluation has none: no run, and the reason is kept."""
    recordings = install_here()
    with SummaryWriter("runs/lean") as lean, SummaryWriter("runs/eval") as evaluation:
        for step in range(3):
            for tag in ("speed", "episode_return", "r", "r_max", "logprobs", "advantages", "gn"):
                lean.add_scalar(tag, 1.0, step)
            evaluation.add_scalar("eval/return", 1.0, step)
    recordings.close()
    assert {path.name for path in Path("runs").rglob("*") if path.is_dir()} == {"lean", "eval"}
    lean_log, eval_log = recordings.logs.values()
    assert "it looks like a log of LeanRL: its PPO scripts log no losses" in str(lean_log.trouble)
    assert "name the losses with --map" in str(eval_log.trouble)


def test_a_mapping_and_a_definition_are_taken(install_here: Install) -> None:
    """Tags of nobody's dialect become a run with `mapping`; `root` is another folder of runs, where names stay free."""
    options = {"mapping": {"vf": "value_loss", "pg": "policy_loss"}, "definition": {"factor": 0.5, "clipping": "none"}}
    recordings = install_here(root="elsewhere", **options)
    for folder in ("a/tb", "b/tb"):
        with SummaryWriter(folder) as writer:
            for step in range(3):
                writer.add_scalar("vf", 4.0, step)
                writer.add_scalar("pg", 1.0, step)
    recordings.close()
    for name in ("tb", "tb-2"):
        run = open_run(f"elsewhere/{name}")
        assert [row["value_loss"] for row in rows_of(run)] == [2.0, 2.0, 2.0]
        assert run.header.value_loss_definition["assumed"] is False
    assert not list(Path("a").rglob("run.json"))


def test_hyper_parameters_come_from_texts_and_hparams(install_here: Install) -> None:
    """Those that come before the first row are in the header; later ones are named; add_hparams makes no run."""
    recordings = install_here()
    writers: list[Any] = [SummaryWriter("runs/torch"), tensorboardX.SummaryWriter("runs/x")]
    for made in writers:
        made.add_text("hyperparameters", "|param|value|\n|-|-|\n|gamma|0.99|\n|env_id|CartPole-v1|")
        made.add_text("note", "some words")
        made.add_hparams({"lr": 3e-4, "anneal": True}, {"hparam/return": 1.0})
        for step in range(3):
            write(made, step)
        made.add_hparams({"late": 1}, {"hparam/return": 1.0})
        made.close()
    recordings.close()
    for name in ("torch", "x"):
        header = open_run(f"runs/{name}").header
        assert header.config == {"gamma": 0.99, "env_id": "CartPole-v1", "lr": 3e-4, "anneal": True}
        assert header.env == "CartPole-v1"
        account = recordings.logs[str(Path(f"runs/{name}").absolute())].account
        assert "1 hyper-parameters came after the run had begun: not recorded" in account.notes
    assert len(recordings.logs) == 2


def test_runs_one_after_the_other_are_ended_one_by_one(install_here: Install) -> None:
    """A run ends when its writer is closed, or is gone while another begins; one without losses is in nobody's way."""
    install_here()
    for name in ("closed", "gone"):
        writer: Any = SummaryWriter(f"runs/{name}")
        for step in range(2):
            write(writer, step)
        if name == "closed":
            writer.close()
            assert open_run("runs/closed").status() == "finished"
    assert open_run("runs/gone").status() == "live"
    writer.file_writer.close()
    del writer
    last = SummaryWriter("runs/last")
    for step in range(3):
        write(last, step)
    assert open_run("runs/gone").status() == "finished"
    assert open_run("runs/last").status() == "live"
    last.close()
    assert [len(rows_of(f"runs/{name}")) for name in ("closed", "gone", "last")] == [2, 2, 3]


def test_a_writer_that_goes_on_after_its_end_goes_on_with_the_run(install_here: Install) -> None:
    """Closed and used again, or made anew for the same folder: further updates of the same run."""
    install_here()
    writer = SummaryWriter("runs/again")
    write(writer, 128)
    write(writer, 256)
    writer.close()
    write(writer, 384)
    writer.close()
    with SummaryWriter("runs/again") as writer:
        write(writer, 384, own=1.0)  # the same step once more is a further update
    rows = rows_of("runs/again")
    assert [(row["update"], row["env_steps"], row["attempt"]) for row in rows] == [
        (0, 128, 0), (1, 256, 0), (2, 384, 1), (3, 384, 2)
    ]  # fmt: skip


def test_a_second_program_in_the_same_folder_adds_an_attempt(install_here: Install) -> None:
    """One that begins anew supersedes the rows before it; one that was continued goes on behind its steps."""
    for steps in ([10, 20, 30, 40], [10, 20], [20, 30]):
        recordings = install_here()
        with SummaryWriter("runs/fixed") as writer:
            for step in steps:
                write(writer, step)
        recordings.close()
    rows = rows_of("runs/fixed")
    assert [(row["update"], row["env_steps"], row["attempt"]) for row in rows] == [(0, 10, 1), (1, 20, 2), (2, 30, 2)]


def test_each_rank_that_writes_is_recorded_as_its_rank(install_here: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rank alone is a whole run; another that writes to the same folder is another rank of it."""
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        recordings = install_here()
        with SummaryWriter("runs/ddp") as writer:
            for step in range(3):
                write(writer, step)
        recordings.close()
        run = open_run("runs/ddp")
        assert run.ranks() == list(range(int(rank) + 1))
        assert run.header.world_size == 1
        assert not run.faults()


def test_trouble_of_ours_is_noted_once_and_the_program_goes_on(
    install_here: Install, caplog: pytest.LogCaptureFixture
) -> None:
    """A number that cannot be read, a run that another recorder holds, a folder in the way: the event file has all."""
    install_here()

    class Odd(float):
        def item(self) -> float:
            raise RuntimeError("no")

    caplog.set_level(logging.WARNING, "esper_recorder")
    with Recorder.open("runs", run_id="taken") as other:
        other.record(update=0, policy_loss=0.0, value_loss=1.0)
        Path("runs/blocked").mkdir()
        Path("runs/blocked/rank-0000").write_text("a file")
        for name in ("odd", "taken", "blocked"):
            with SummaryWriter(f"runs/{name}") as writer:
                for step in range(4):
                    write(writer, step, own=Odd(step))
            (file,) = Path(f"runs/{name}").glob("events.*")
            kept = [key for batch in EventFiles([file]).points(lambda _read: None, Account()) for key in batch.keys]
            assert len(kept) == 4 * 6
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in said] == [
        "a call of add_scalar was not recorded",
        str(Path("runs/taken").absolute()),
        str(Path("runs/blocked").absolute()),
    ], said
    assert len(rows_of("runs/odd")) == 4
    assert len(rows_of("runs/taken")) == 1


def test_a_name_that_no_run_can_have_is_changed(install_here: Install) -> None:
    """The run then lies beside the folder of its event files."""
    install_here()
    with SummaryWriter("runs/lr=0.1, seed 3") as writer:
        for step in range(3):
            write(writer, step)
    assert len(rows_of("runs/lr-0.1-seed-3")) == 3


def test_what_a_forked_child_writes_is_its_own(install_here: Install) -> None:
    """The child of a fork records its own writers, and leaves the run of its parent alone."""
    install_here()
    writer = SummaryWriter("runs/parent")
    for step in range(2):
        write(writer, step)
    child = os.fork()
    if child == 0:
        try:
            with SummaryWriter("runs/child") as own:
                for step in range(3):
                    write(own, step)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    write(writer, 2)
    writer.close()
    assert [len(rows_of(f"runs/{name}")) for name in ("parent", "child")] == [3, 3]


def test_installing_twice_and_closing(install_here: Install, caplog: pytest.LogCaptureFixture) -> None:
    """The first call counts; after `close` the methods of the writers are what they were, and `with` tells the end."""
    before = SummaryWriter.__dict__["add_scalar"]
    recordings = install_here()
    assert install_here() is recordings
    assert install_here(root="other") is recordings
    assert "its options are ignored" in caplog.text
    assert SummaryWriter.__dict__["add_scalar"] is not before
    recordings.close()
    assert SummaryWriter.__dict__["add_scalar"] is before

    def train() -> None:
        with install_here(), SummaryWriter("runs/closed"):
            writer = SummaryWriter("runs/broken")
            for step in range(2):
                write(writer, step)
            raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        train()
    run = open_run("runs/broken")
    assert (run.status(), len(rows_of(run))) == ("failed", 2)
    shutil.rmtree("runs")
