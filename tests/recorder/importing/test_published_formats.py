"""Logs of trainers whose source was read and that were not run: a few lines as their loggers write them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from tests.recorder.importing.followed import rows_of
from tests.recorder.importing.logs import DATA, balance, import_log

BRIGHT = "\x1b[36m\x1b[1m\x1b[35m\x1b[1m"

STOIX = "".join(
    f"{BRIGHT}{line}\x1b[0m\n"
    for n in (1, 2, 3)
    for line in (
        f"MISC - Timestep: {1024 * n}",
        f"ACTOR - Episode length mean: {10 * n}.000 | Episode return mean: {10 * n}.500 | Steps per second: 2000.250",
        f"TRAINER - Actor loss: -0.0{n}1 | Entropy: 0.69{n} | Value loss: {n}.250 | Steps per second: 12.500",
        "EVALUATOR - Episode length mean: 99.000 | Episode return mean: 99.000 | Steps per second: 500.000",
    )
)

ACME = "".join(
    f"I1128 12:00:0{n}.123456 140 terminal.py:91] {line}\n"
    for n in (1, 2, 3)
    for line in (
        f"[Environment Loop] Actor Steps = {1024 * n} | Episode Return = {n}.000 | Steps Per Second = 900.000",
        f"[Learner] Actor Steps = {1024 * n} | Learner Steps = {n} | Loss Entropy = -0.69{n} | Loss Policy = -0.0{n}1"
        f" | Loss Total = 1.000 | Loss Value = {2 * n}.500 | Norm Grad = 0.500",
        f"[Evaluator] Episode Return = 9{n}.000",
    )
)

ACME_CSV = "actor_steps,learner_steps,loss_entropy,loss_policy,loss_total,loss_value,norm_grad\n" + "".join(
    f"{1024 * n},{n},-0.69{n},-0.0{n}1,1.0,{2 * n}.5,0.5\n" for n in (1, 2, 3)
)

AGILERL = (
    "train/global_step,train/steps_per_second,eval/mean_fitness,eval/best_fitness,eval/agent_0/fitness,train/mean_score,"
    "train/agent_0/local_steps,train/agent_0/score,train/agent_0/loss,train/agent_0/policy_loss,"
    "train/agent_0/value_loss,train/agent_0/entropy_loss,train/mean_loss\n"
    + "".join(f"{1024 * n},900.5,20,20,20,{n}.5,{1024 * n},{n}.5,1,-0.5,{n / 64},-0.01,1\n" for n in (1, 2, 3))
)

SAFE_RLHF = "".join(
    json.dumps(
        {
            "train/actor_loss": -0.01,
            "train/reward_critic_loss": 0.5 * n,
            "train/reward": 1.5,
            "train/reward_with_kl_penalty": 1.25,
            "train/reward_return": 1.0,
            "train/reward_value": 0.75,
            "train/kl_divergence": 12.0,
            "train/actor_lr": 1e-5,
            "train/mean_generated_length": 256.0,
            "_step": n,
        }
    )
    + "\n"
    for n in (1, 2, 3)
)

DOPAMINE = "".join(
    json.dumps({"step": 2048 * n, "Losses/Actor": -0.01, "Losses/Critic": n / 2, "Losses/Entropy": 1.5, **more}) + "\n"
    for n in (1, 2, 3)
    for more in ({"Losses/Combined": 0.2},)
)

LOGS: dict[str, tuple[str, str, dict[str, list[Any]]]] = {
    "stoix.log": (
        STOIX,
        "Stoix, Mava, as printed",
        {
            "value_loss": [1.25, 2.25, 3.25],
            "policy_loss": [-0.011, -0.021, -0.031],
            "entropy": [0.691, 0.692, 0.693],
            "episode_return_mean": [10.5, 20.5, 30.5],
            "evaluation_return_mean": [None, 99.0, 99.0],
            "env_steps": [1024, 2048, 3072],
            "steps_per_sec": [2000.25] * 3,
        },
    ),
    "acme.log": (
        ACME,
        "Acme, as printed",
        {
            "value_loss": [1.25, 2.25, 3.25],
            "policy_loss": [-0.011, -0.021, -0.031],
            "entropy": [0.691, 0.692, 0.693],
            "grad_norm": [0.5] * 3,
            "env_steps": [1024, 2048, 3072],
            "environment_loop/Episode Return": [1.0, 2.0, 3.0],
            "evaluator/Episode Return": [None, 91.0, 92.0],
        },
    ),
    "acme.csv": (
        ACME_CSV,
        "Acme",
        {"value_loss": [1.25, 2.25, 3.25], "entropy": [0.691, 0.692, 0.693], "env_steps": [1024, 2048, 3072]},
    ),
    "agilerl.csv": (
        AGILERL,
        "AgileRL",
        {
            "value_loss": [1.0, 2.0, 3.0],
            "policy_loss": [-32.0] * 3,
            "entropy": [None] * 3,
            "entropy_over_batch_size": [0.01] * 3,
            "episode_return_mean": [1.5, 2.5, 3.5],
            "env_steps": [1024, 2048, 3072],
        },
    ),
    "safe_rlhf.jsonl": (
        SAFE_RLHF,
        "safe-rlhf, Align-Anything",
        {"value_loss": [0.5, 1.0, 1.5], "kl_to_reference": [12.0] * 3, "kl_divergence": [None] * 3},
    ),
    "dopamine.jsonl": (
        DOPAMINE,
        "Dopamine",
        {"value_loss": [0.5, 1.0, 1.5], "entropy": [1.5] * 3, "env_steps": [2048, 4096, 6144]},
    ),
}


@pytest.mark.parametrize("name", LOGS)
def test_each_number_is_what_the_source_says(name: str, tmp_path: Path) -> None:
    """The trainer is known, the losses are on the scale of the metrics table, and the entropy is positive."""
    text, trainer, columns = LOGS[name]
    log = tmp_path / name
    log.write_text(text)
    done = import_log(log, "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["trainer"] == trainer
    assert (balance(done)["refused"], balance(done)["not readable"]) == ("none", "none")
    rows = rows_of(tmp_path / "runs" / "r")
    assert {column: [row[column] for row in rows] for column in columns} == columns


def test_a_loss_that_is_divided_by_the_batch_size_is_multiplied_by_what_a_person_says(tmp_path: Path) -> None:
    """AgileRL divides by batch_size once more, and does not log it."""
    log = tmp_path / "agilerl.csv"
    log.write_text(AGILERL)
    done = import_log(log, "--value-loss-definition", "factor=256", "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert [row["value_loss"] for row in rows_of(tmp_path / "runs" / "r")] == [4.0, 8.0, 12.0]


def test_a_loss_that_is_no_squared_error_is_not_taken_for_one(tmp_path: Path) -> None:
    """The critic of garage has a log-likelihood; the error says so."""
    log = tmp_path / "progress.csv"
    log.write_text(
        "Evaluation/AverageDiscountedReturn,GaussianMLPValueFunction/LossAfter,GaussianMLPPolicy/LossAfter\n1,2,3\n"
    )
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "a log of garage: GaussianMLPValueFunction/LossAfter is a negative log-likelihood" in done.stderr


@pytest.mark.parametrize("prefix", ["INFO - ", "[INFO] ", "2026-11-28 12:00:00 - ppo - INFO - "])
def test_a_level_is_no_title(prefix: str, tmp_path: Path) -> None:
    """What `logging` puts in front is no part of a key."""
    log = tmp_path / "train.log"
    log.write_text("".join(f"{prefix}value_loss: {n} | policy_loss: 0.5\n" for n in (1, 2)))
    done = import_log(log, root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "value_loss" in balance(done)


def test_two_returns_with_one_name_are_two(tmp_path: Path) -> None:
    """The word at the beginning of a line tells them apart, and the step of a line stays its step."""
    log = tmp_path / "train.log"
    lines = "[Train] step: {s}, return: {n}, value_loss: 0.5, policy_loss: 0.25\n[Eval] step: {s}, return: 99.0\n"
    log.write_text("".join(lines.format(n=n, s=128 * n) for n in (1, 2)))
    done = import_log(
        log, "--map", "train/return=episode_return_mean", "--map", "step=env_steps", root=tmp_path / "runs"
    )
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "runs" / "train")
    assert [(row["env_steps"], row["episode_return_mean"]) for row in rows] == [(128, 1.0), (256, 2.0)]
    assert [row["eval/return"] for row in rows] == [99.0, 99.0]


def test_a_table_that_rich_draws_is_read(tmp_path: Path) -> None:
    """OmniSafe prints one for each epoch, with the names of its progress.csv."""
    rows = csv.DictReader(
        gzip.decompress((DATA / "omnisafe_ppolag_progress.csv.gz").read_bytes()).decode().splitlines()
    )
    text = io.StringIO()
    console = Console(file=text, width=120)
    for row in rows:
        table = Table("Metrics", "Value")
        for key, cell in row.items():
            table.add_row(key, cell)
        console.print(table)
        console.print("Warning: trajectory cut off when rollout by epoch")
    log = tmp_path / "slurm-1.out"
    log.write_text(text.getvalue(), "utf-8")
    done = import_log(log, "--run-id", "printed", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert balance(done)["trainer"] == "OmniSafe"
    assert (
        import_log(DATA / "omnisafe_ppolag_progress.csv.gz", "--run-id", "csv", root=tmp_path / "runs").exit_code == 0
    )
    assert rows_of(tmp_path / "runs" / "printed") == rows_of(tmp_path / "runs" / "csv")
