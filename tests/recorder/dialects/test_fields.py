"""`esper-rec fields` as a person and a script meet it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from esper_recorder.cli import main
from esper_recorder.dialects.table import DIALECTS


def fields(*arguments: str, width: int = 80) -> Result:
    """Run `esper-rec fields` in this process, on a terminal of this width."""
    return CliRunner().invoke(main, ["fields", *arguments], env={"COLUMNS": str(width)})


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    """Every trainer and every key is there, and no line is wider than the terminal."""
    done = fields(width=width)
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= width
    for dialect in DIALECTS:
        assert f"{dialect.name} (" in done.output
        assert all(key.name in done.output for key in dialect.keys)


def test_a_word_selects_trainers_keys_and_columns() -> None:
    """A column shows who has it, a trainer all of its keys, whatever the case; another word is an error."""
    done = fields("KL_Divergence")
    assert "train/approx_kl" in done.output
    assert "train/value_loss" not in done.output
    assert "losses/c_loss" in fields("rl_games").output
    done = fields("no such thing")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert "esper-rec fields lists them all" in done.stderr


def test_scripts_get_json() -> None:
    """Column, factor and definition of each key; a key that is not imported has no column."""
    (sb3,) = (
        entry for entry in json.loads(fields("--format", "json").output) if entry["trainer"] == "Stable-Baselines3"
    )
    keys = {key["key"]: key for key in sb3["keys"]}
    assert (keys["train/value_loss"]["column"], keys["train/value_loss"]["factor"]) == ("value_loss", 0.5)
    assert keys["train/entropy_loss"]["factor"] == -1.0
    assert keys["rollout/ep_rew_mean"]["is_extra"]
    assert sb3["value_loss_definition"]["factor"] == 0.5
    assert sb3["update_marker"] == "train/value_loss"
    again = json.loads(fields("mean_reward/time", "--format", "json").output)
    assert {key["column"] for entry in again for key in entry["keys"]} == {None}
