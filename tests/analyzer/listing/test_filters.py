"""The grammar of filters: what each condition means, and one clear line for each that is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from esper_analyzer.listing.entry import LOSS, RunEntry
from esper_analyzer.listing.filters import parse_filters, statuses
from esper_schemas.errors import UsageError

RUN = RunEntry(
    name="sweep/lr=0.001",
    path=Path("runs/sweep/lr=0.001"),
    status="finished",
    age_secs=2 * 3600.0,
    env="CartPole-v1",
    config={
        "lr": 1e-3,
        "ppo.clip": 0.2,
        "seed": 7,
        "anneal": True,
        "note": "a and b",
        "none": None,
        "layers": [64, 64],
    },
    updates=60,
    measured={"episode_return_mean": 150.0, LOSS: math.nan, "entropy": 0.5, "my/score": 3.0},
    level="warning",
    since=12,
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("config.lr >= 1e-3", True),
        ("config.lr>=1e-3", True),
        ("config.lr > 1e-3", False),
        ("lr == 0.001", True),
        ("config.ppo.clip < 0.3", True),
        ("config.seed == 7", True),
        ("config.seed == '7'", False),
        ("config.anneal == true", True),
        ("config.anneal == 1", False),
        ("config.anneal != false", True),
        ("config.note == 'a and b'", True),
        ('config.note == "a and b" and env == CartPole-v1', True),
        ("config.note > 3", False),
        ("config.layers ~ 64", True),
        ("config.none == null", True),
        ("config.lr != null", True),
        ("env == CartPole-v1", True),
        ("env != CartPole-v1", False),
        ("env ~ cartpole", True),
        ("name ~ lr=0.001", True),
        ("trainer == null", True),
        ("trainer == sb3", False),
        ("trainer != sb3", False),
        ("status == finished", True),
        ("verdict == warning", True),
        ("verdict >= warning", True),
        ("verdict < critical and verdict > healthy", True),
        ("verdict == critical", False),
        ("since <= 12", True),
        ("return > 100", True),
        ("return > 100 and return < 120", False),
        ("episode_return_mean >= 150", True),
        ("entropy <= .5", True),
        ("extras.my/score == 3", True),
        ("extras.other == null", True),
        ("loss < 1", False),
        ("loss >= 1", False),
        ("age < 3h", True),
        ("age > 1d", False),
        ("age > 90m", True),
        ("age == 7200", True),
        ("updates >= 60", True),
        ("steps > 0", False),
        ("steps == none", True),
    ],
)
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    """Numbers, texts, booleans, levels and ages are compared as what they are; what is not known matches nothing."""
    assert all(condition.holds(RUN) for condition in parse_filters([text])) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--filter expects NAME OPERATOR VALUE, such as 'config.lr >= 1e-3'"),
        ("return", "found 'return'"),
        ("return = 3", "found 'return = 3'"),
        ("return > ", "expects NAME OPERATOR VALUE"),
        ("return > 1 or lr > 2", "expects NAME OPERATOR VALUE"),
        ("return > 1 and", "expects NAME OPERATOR VALUE"),
        ("__import__('os').system('x') == 0", "expects NAME OPERATOR VALUE"),
        ("retrun > 1", "unknown name 'retrun' (did you mean return"),
        ("retrun > 1", "known are name, status, updates, return"),
        ("config. == 1", "unknown name 'config.'"),
        ("skipped == 1", "unknown name 'skipped'"),
        ("return > many", "return is a number, found 'many'"),
        ("return > nan", "return is a number, found 'nan'"),
        ("return > true", "return is a number"),
        ("return > null", "null can only be compared with == and !="),
        ("return ~ 3", "~ looks for a part of a text, and return is a number"),
        ("verdict == bad", "verdict is one of unknown, healthy, warning, critical, found 'bad'"),
        ("status == done", "--filter is one of live, stale, finished"),
        ("env > a", "only numbers are less or greater"),
        ("config.lr > high", "only numbers are less or greater"),
        ("age > soon", "age is a time such as 90s, 45m, 3h, 2d or 1w, found 'soon'"),
        ("x" * 3000, "at most 2,000 characters, found 3,000"),
        ("env == \x1b[31m", "\\x1b"),
    ],
)
def test_a_wrong_filter_is_one_clear_line(text: str, said: str) -> None:
    """The line says what was expected, what was found, and which names there are."""
    if text.startswith("env == \x1b"):
        assert parse_filters([text])[0].operand == "\x1b[31m"  # a text like any other; it matches no run
        return
    with pytest.raises(UsageError) as caught:
        parse_filters([text])
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_statuses_are_given_alone_or_with_commas() -> None:
    """A status that there is not names those that there are."""
    assert statuses(["live,stale", "failed"]) == {"live", "stale", "failed"}
    with pytest.raises(UsageError, match=r"--status is one of live, stale, .*found 'dead'"):
        statuses(["live,dead"])
