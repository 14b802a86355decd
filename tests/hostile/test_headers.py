"""A header that no reader could read is refused when the run is opened, and leaves no run behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_schemas.errors import UsageError

MEBIBYTE = 1 << 20


def nested(depth: int, kind: type = dict) -> Any:
    """A value in a value in a value."""
    value: Any = 0.5
    for _ in range(depth):
        value = {"a": value} if kind is dict else kind([value])
    return value


def _circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


TOO_MUCH: dict[str, dict[str, Any]] = {
    "nested 900 deep": {"config": nested(900)},
    "nested 900 deep in lists": {"config": {"a": nested(900, list)}},
    "nested 100,000 deep": {"config": nested(100_000)},
    "nested in tuples": {"config": {"a": nested(100_000, tuple)}},
    "circular": {"config": _circular()},
    "a long text": {"config": {"text": "x" * 17 * MEBIBYTE}},
    "a text that is longer once it is escaped": {"config": {"text": "\x01" * 4 * MEBIBYTE}},
    "a long key": {"config": {"x" * 17 * MEBIBYTE: 1}},
    "a long list, which is longer once it is indented": {"config": {"list": [0] * 2 * MEBIBYTE}},
    "a long trainer": {"trainer": "x" * 17 * MEBIBYTE},
    "a long env": {"env": "x" * 17 * MEBIBYTE},
    "a long commit": {"git_commit": "x" * 17 * MEBIBYTE},
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_header_that_could_not_be_read_is_refused(tmp_path: Path, name: str) -> None:
    """`Recorder.open` refuses in one line what it could write and nobody could read, and makes no run."""
    with pytest.raises(UsageError) as refused:
        Recorder.open(tmp_path / "runs", run_id="r", **TOO_MUCH[name])
    assert len(str(refused.value)) < 1000
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs" / "r").exists()


@pytest.mark.parametrize("depth", [0, 1, 10, 30, 60, 100, 200, 400, 800])
def test_header_that_is_accepted_can_be_read(tmp_path: Path, depth: int) -> None:
    """However deep a configuration is nested: it is refused, or every reader gets it back."""
    config = {"value": nested(depth)}
    try:
        Recorder.open(tmp_path, run_id="r", config=config).close()
    except UsageError:
        assert depth > 50, "no configuration that people write is refused"
        assert not (tmp_path / "r").exists()
        return
    limit = sys.getrecursionlimit()
    assert open_run("r", tmp_path).header.config == config
    open_run("r", tmp_path).report().to_json()
    assert sys.getrecursionlimit() == limit
