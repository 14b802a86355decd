"""The table of dialects: consistent in itself, and found from the keys of a log."""

from __future__ import annotations

import pytest

from esper_recorder.dialects.key import Dialect
from esper_recorder.dialects.table import DIALECTS, LOSSLESS, find_dialect, why_lossless
from esper_schemas import METRICS
from esper_schemas.metric.coercion import check_extra_name

BY_NAME = {dialect.name: dialect for dialect in DIALECTS}


def names_of(dialect: Dialect) -> list[str]:
    """The keys of a log in this dialect, with a policy called `default_policy`."""
    return [key.name.replace("{module}", "default_policy") for key in dialect.keys]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_is_consistent(dialect: Dialect) -> None:
    """Both losses have a key, no column has two, each column can be one, and the factor is that of the definition."""
    columns = [key.column for key in dialect.keys if key.kind != "again"]
    assert {"value_loss", "policy_loss"} <= set(columns)
    assert len(set(columns)) == len(columns)
    assert set(dialect.signature) <= {key.name for key in dialect.keys}
    assert dialect.marker.factor == dialect.value_loss.factor
    for column in columns:
        check_extra_name(column)
    assert all(key.column == "" and key.remark for key in dialect.keys if key.kind == "again")
    assert dialect.number not in METRICS
    assert dialect.number or dialect.steps == "env_steps"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_is_found_from_its_own_keys(dialect: Dialect) -> None:
    """All keys of a dialect, and its signature alone, lead to it and to no other."""
    for names in (names_of(dialect), [name.replace("{module}", "p0") for name in dialect.signature]):
        found = find_dialect(names)
        assert found is not None
        assert found.name == dialect.name


@pytest.mark.parametrize(
    ("value_loss", "std", "seconds"),
    [
        ("Loss/value_function", "Policy/mean_noise_std", "Perf/collection time"),  # to 3.1
        ("Loss/value", "Policy/mean_noise_std", "Perf/collection_time"),  # 3.2 to 4.0
        ("Loss/value", "Policy/mean_std", "Perf/collection_time"),  # from 5.0
    ],
)
def test_each_version_of_rsl_rl_has_names_of_its_own(value_loss: str, std: str, seconds: str) -> None:
    """It renamed three keys in two steps; each log has the same three columns."""
    found = find_dialect([value_loss, "Loss/surrogate", std, seconds])
    assert found is not None
    columns = {key.name: key.column for key in found.keys}
    assert (columns[value_loss], columns[std], columns[seconds]) == ("value_loss", "policy_std", "rollout_secs")


def test_of_several_policies_the_default_one_is_read() -> None:
    """`default_policy` if it is there, the first by name otherwise, never the sum of all."""
    names = [f"learners/{module}/{key}" for module in ("b", "a") for key in ("vf_loss_unclipped", "policy_loss")]
    found = find_dialect([*names, "learners/__all_modules__/num_env_steps_trained"])
    assert found is not None
    assert found.marker.name == "learners/a/vf_loss_unclipped"
    found = find_dialect([*names, *(name.replace("/b/", "/default_policy/") for name in names)])
    assert found is not None
    assert found.marker.name == "learners/default_policy/vf_loss_unclipped"


def test_of_several_agents_the_first_one_is_read() -> None:
    """Where each has a critic, as where all have one; the keys of the others are none that the dialect knows."""
    agents = [f"{agent}/{key}" for agent in ("agent1", "agent0") for key in ("policy_loss", "dist_entropy", "ratio")]
    for critics in (["agent1/value_loss", "agent0/value_loss"], ["critic/value_loss"]):
        found = find_dialect([*agents, *critics, "agent0/individual_rewards"])
        assert found is not None
        assert found.marker.name == critics[-1]
        assert {key.name for key in found.keys} & set(agents) == {name for name in agents if name.startswith("agent0")}


def test_other_algorithms_are_not_taken_for_ppo() -> None:
    """A2C of Stable-Baselines3 has a key train/value_loss too; the reason for having no losses names it."""
    a2c = ["train/value_loss", "train/policy_loss", "train/entropy_loss", "rollout/ep_rew_mean"]
    assert find_dialect(a2c) is None
    assert "A2C" in why_lossless(a2c)
    assert find_dialect(["actor/pg_loss", "actor/ppo_kl"]) is None
    assert "GRPO" in why_lossless(["actor/pg_loss", "actor/ppo_kl"])
    sac = ["Losses/Value Loss", "Losses/Policy Loss", "Losses/Q1 Loss", "Policy/Learning Rate"]
    assert find_dialect(sac) is None
    assert "SAC" in why_lossless(sac)
    assert why_lossless(["a", "b"]) == ""
    assert all(known.why for known in LOSSLESS)


def test_a_definition_is_made_exact_from_what_the_log_says() -> None:
    """CleanRL writes its options, SB3 the width of the clip where it clips; without them the clipping is unknown."""
    cleanrl, sb3, rllib = BY_NAME["CleanRL"], BY_NAME["Stable-Baselines3"], BY_NAME["RLlib, old API stack"]
    assert cleanrl.define
    assert sb3.define
    assert rllib.define
    assert cleanrl.value_loss.clipping == "unknown"
    made = cleanrl.define(cleanrl.value_loss, {"clip_vloss": True, "clip_coef": 0.1}, {})
    assert (made.clipping, made.clip_range, made.factor) == ("max", 0.1, 1.0)
    assert cleanrl.define(cleanrl.value_loss, {"clip_vloss": False, "clip_coef": 0.1}, {}).clipping == "none"
    assert cleanrl.define(cleanrl.value_loss, {}, {}) == cleanrl.value_loss
    assert sb3.define(sb3.value_loss, {}, {}).clipping == "none"
    made = sb3.define(sb3.value_loss, {}, {"train/clip_range_vf": 0.2})
    assert (made.clipping, made.clip_range, made.factor) == ("clipped", 0.2, 0.5)
    made = rllib.define(rllib.value_loss, {"vf_clip_param": 10}, {})
    assert (made.clipping, made.clip_range) == ("error_clipped", 10.0)


def test_a_number_that_is_no_metric_says_how_it_differs() -> None:
    """RLlib's old results are means over an update, and the entropy of OpenRLHF is one of tokens."""
    remarks = {key.name: key.remark for key in BY_NAME["RLlib, old API stack"].keys}
    explained = remarks["info/learner/{module}/learner_stats/vf_explained_var"]
    assert "mean of all minibatches" in explained
    assert "last minibatch" not in explained
    found = {key.name: key for key in BY_NAME["OpenRLHF"].keys}["train/entropy_loss"]
    assert (found.column, found.factor) == ("entropy_per_token", 1.0)


def test_what_no_log_tells_is_said_to_be_unclear() -> None:
    """skrl multiplies by a scale that it does not log, so its factor must not be guessed."""
    unclear = {dialect.name: dialect.unclear for dialect in DIALECTS if dialect.unclear}
    assert set(unclear) == {
        "skrl",
        "SBX",
        "SBX, older",
        "Sample Factory",
        "TorchRL",
        "Brax",
        "OmniSafe",
        "TF-Agents",
        "on-policy (MAPPO)",
        "on-policy (MAPPO), separated",
        "HARL",
        "AgileRL",
        "Acme",
        "Acme, as printed",
    }
    assert all(option in unclear["skrl"] for option in ("value_loss_scale", "value_preprocessor"))
    sbx = {key.name: key for key in BY_NAME["SBX, older"].keys}
    assert "−ent_coef·H is included" in sbx["train/pg_loss"].remark  # it logs no other policy loss
    assert sbx["train/std"].column == "policy_std"
