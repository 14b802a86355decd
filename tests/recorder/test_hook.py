from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import set_slow_write_secs, wait_until

from esper_recorder import Recorder
from esper_schemas import RunDirectory

ReadRows = Callable[..., list[dict[str, Any]]]


def _put(recorder: Recorder, update: int, **more: Any) -> bool:
    return recorder.record(update=update, policy_loss=0.1, value_loss=0.2, **more)


def test_hook_sees_every_row_in_order_on_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`on_update` gets the rows in order with all their numbers, whether the caller or the background wrote them."""
    seen: list[Mapping[str, Any]] = []
    threads: set[str] = set()

    def hook(row: Mapping[str, float]) -> None:
        seen.append(dict(row))
        threads.add(threading.current_thread().name)

    recorder = Recorder.open(tmp_path, run_id="r", on_update=hook)
    for i in range(3):
        _put(recorder, i)
    with monkeypatch.context() as slow:
        set_slow_write_secs(slow, -1.0, of_thread=False)
        for i in range(3, 6):
            _put(recorder, i, extras={"mine": i})
    recorder.record(update="bad", policy_loss=0.1, value_loss=0.2)
    recorder.close()
    assert [row["update"] for row in seen] == list(range(6))
    assert [row["seq"] for row in seen] == list(range(6))
    assert [row.get("mine") for row in seen] == [None] * 3 + [3.0, 4.0, 5.0]
    assert threads == {"MainThread", "esper-recorder"}


def test_hook_that_raises_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows, caplog: pytest.LogCaptureFixture
) -> None:
    """What a hook raises is logged once, also in the background, where it may not even end the thread."""

    def hook(row: Mapping[str, float]) -> None:
        raise SystemExit(3) if threading.current_thread().name == "esper-recorder" else ValueError("hook is broken")

    with Recorder.open(tmp_path, run_id="r", on_update=hook) as recorder:
        assert _put(recorder, 0)
        with monkeypatch.context() as slow:
            set_slow_write_secs(slow, -1.0, of_thread=False)
            assert _put(recorder, 1)
            _put(recorder, 2)
            _put(recorder, 3)
    assert [row["update"] for row in read_rows(tmp_path / "r")] == [0, 1, 2, 3]
    assert RunDirectory(tmp_path / "r").rank(0).attempts()[0].status == "finished"
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'r'}: on_update raised ValueError: hook is broken"
    ]


class Unreadable(Exception):
    """An exception whose text cannot be read."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_exception_that_has_no_text_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook whose exception cannot even be read ends neither the caller nor the thread that writes."""

    def hook(row: Mapping[str, float]) -> None:
        raise Unreadable

    with monkeypatch.context() as slow, Recorder.open(tmp_path, run_id="r", on_update=hook) as recorder:
        set_slow_write_secs(slow, -1.0, of_thread=False)
        for i in range(4):
            _put(recorder, i)
    assert [row["update"] for row in read_rows(tmp_path / "r")] == [0, 1, 2, 3]
    assert RunDirectory(tmp_path / "r").rank(0).attempts()[0].status == "finished"
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'r'}: on_update raised Unreadable"]


def test_strict_hook_raises_in_the_caller(tmp_path: Path, read_rows: ReadRows) -> None:
    """With strict=True the caller gets what the hook raised; the row is on disk all the same."""

    def hook(row: Mapping[str, float]) -> None:
        raise ValueError("hook is broken")

    with Recorder.open(tmp_path, run_id="r", on_update=hook, strict=True) as recorder:
        with pytest.raises(ValueError, match="hook is broken"):
            _put(recorder, 0)
        assert len(read_rows(tmp_path / "r")) == 1


@pytest.mark.parametrize("background", [False, True])
def test_hook_may_record_and_close(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_rows: ReadRows,
    caplog: pytest.LogCaptureFixture,
    background: bool,
) -> None:
    """A hook that records a row of its own, and then closes the run, does not lock anything up in either thread."""
    recorder: Recorder

    def hook(row: Mapping[str, float]) -> None:
        if row["update"] == 0:
            _put(recorder, 100)
        if row["update"] == 100:
            recorder.close("interrupted", "the hook has seen enough")

    if background:
        set_slow_write_secs(monkeypatch, -1.0, of_thread=False)
    recorder = Recorder.open(tmp_path, run_id="r", on_update=hook)
    if background:
        assert _put(recorder, 50)  # the next ones are written in the background
    _put(recorder, 0)
    wait_until(lambda: "closed" in repr(recorder))
    recorder.close()
    assert "does not answer" not in caplog.text  # as `close` says where it waits in vain
    assert [row["update"] for row in read_rows(tmp_path / "r")] == ([50] if background else []) + [0, 100]
    (attempt,) = RunDirectory(tmp_path / "r").rank(0).attempts()
    assert (attempt.status, attempt.reason) == ("interrupted", "the hook has seen enough")
