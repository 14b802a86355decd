"""The black box: when it is written, what is in it, and that it never gets in the way."""

from __future__ import annotations

import errno
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.waiting import HANG_SECS, wait_until

from esper_recorder import Recorder
from esper_recorder.keeping import durable
from esper_recorder.writing import background, black_box
from esper_recorder.writing.device_capture import fetch_together, keep_on_device
from esper_schemas import PayloadError, RunDirectory, UsageError
from esper_schemas.run.names import black_box_name, black_boxes
from esper_schemas.segment.black_box import BlackBox, read_black_box

Open = Callable[..., Recorder]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens recorders that are closed at the end; they wait for a black box however long it takes."""
    monkeypatch.setattr(background, "WAIT_SECS", HANG_SECS)
    monkeypatch.setattr("esper_recorder.recorder.PATIENCE_SECS", HANG_SECS)
    opened: list[Recorder] = []

    def start(**options: Any) -> Recorder:
        opened.append(Recorder.open(tmp_path, run_id=f"r{len(opened)}", **options))
        return opened[-1]

    yield start
    for recorder in opened:
        recorder.close()


def boxes(recorder: Recorder) -> list[BlackBox]:
    """All black boxes of a run, as they are on the disk now."""
    with RunDirectory(recorder.path).rank(0).open() as rank:
        finished = [name for name in black_boxes(rank) if rank.exists(black_box_name(name))]
        return [read_black_box(rank, name) for name in finished]


def train(recorder: Recorder, updates: int = 3, minibatches: int = 4, first: int = 0) -> None:
    """Some sound updates."""
    for update in range(first, first + updates):
        for number in range(minibatches):
            recorder.minibatch(policy_loss=-0.1, value_loss=1.0 + number, grad_norm=0.5, reward_forward=2.0)
        recorder.record(update=update, policy_loss=-0.1, value_loss=1.0)


def put(recorder: Recorder, **values: Any) -> None:
    """The row of the update after those of `train`."""
    recorder.record(**{"update": 3, "policy_loss": -0.1, "value_loss": 1.0} | values)


# ---------------------------------------------------------------------- triggers


def raise_in_block(recorder: Recorder, error: BaseException) -> None:
    """An exception leaves the `with` block of a recorder."""
    with pytest.raises(type(error)), recorder:
        raise error


TRIGGERS: dict[str, tuple[Callable[[Recorder], object], str, str]] = {
    "value loss": (lambda r: r.minibatch(value_loss=math.inf), "not_finite", "value_loss is inf in minibatch 0"),
    "gradient": (lambda r: r.minibatch(grad_norm=math.nan), "not_finite", "grad_norm is nan in minibatch 0"),
    "a loss of one's own": (lambda r: r.minibatch(aux_LOSS=-math.inf), "not_finite", "aux_LOSS is -inf in minibatch 0"),
    "numpy": (lambda r: r.minibatch(loss=np.float32("nan")), "not_finite", "loss is nan in minibatch 0"),
    "tensor": (lambda r: r.minibatch(loss=torch.tensor(math.inf)), "not_finite", "loss is inf in minibatch 0"),
    "loss of a row": (
        lambda r: put(r, policy_loss=math.nan),
        "not_finite",
        "policy_loss is nan in the row of the update",
    ),
    "extra of a row": (
        lambda r: put(r, extras={"my_loss": math.inf}),
        "not_finite",
        "my_loss is inf in the row of the update",
    ),
    "gradient count": (lambda r: put(r, nan_grad_count=7), "not_finite", "nan_grad_count is 7"),
    "skipped": (
        lambda r: r.record(update=3, skipped=True, skip_reason=1),
        "skipped",
        "the update was skipped: non-finite loss",
    ),
    "overflow": (lambda r: put(r, amp_overflow=True), "skipped", "mixed precision overflowed"),
    "exception": (lambda r: raise_in_block(r, ZeroDivisionError("no")), "failed", "ZeroDivisionError: no"),
    "Ctrl-C": (lambda r: raise_in_block(r, KeyboardInterrupt()), "interrupted", "KeyboardInterrupt"),
    "closed as failed": (lambda r: r.close("failed", "it diverged"), "failed", "it diverged"),
    "asked": (lambda r: r.dump_black_box("a look\nat it"), "asked", "a look at it"),
}


@pytest.mark.parametrize("kind", TRIGGERS)
def test_what_breaks_is_on_the_disk_when_the_call_returns(start: Open, kind: str) -> None:
    """Each trigger writes one file, with what came before it and why."""
    pull, trigger, reason = TRIGGERS[kind]
    recorder = start()
    train(recorder)
    assert boxes(recorder) == []
    pull(recorder)
    [box] = boxes(recorder)
    assert (box.name, box.record.seq) == ("00000003", 3)
    assert (box.record.trigger, box.record.reason) == (trigger, reason)
    own = box.minibatches.slice(0, 12).select(["seq", "minibatch", "value_loss", "reward_forward"]).to_pylist()
    assert own == [
        {"seq": update, "minibatch": number, "value_loss": 1.0 + number, "reward_forward": 2.0}
        for update in range(3)
        for number in range(4)
    ]
    times = box.minibatches.column("elapsed_secs").to_pylist()
    assert times == sorted(times)
    assert times[0] > 0.0


def test_a_row_that_waits_for_the_background_pulls_the_trigger_too(start: Open) -> None:
    """Also a row that the caller does not write itself."""
    recorder = start()
    train(recorder)
    with recorder._background.lock:
        recorder._background.take_over()
        put(recorder, value_loss=math.nan)
    wait_until(lambda: [box.record.reason for box in boxes(recorder)] == ["value_loss is nan in the row of the update"])


@pytest.mark.parametrize(
    "numbers",
    [{"ratio_max": math.inf}, {"reward": math.nan}, {"value_loss": 1e308, "other_loss": 1e308, "third_loss": 1e308}],
)
def test_other_numbers_need_not_be_finite(start: Open, numbers: dict[str, float]) -> None:
    """A reward or a ratio may be a sentinel, and a sum that overflows is no number of the trainer's."""
    recorder = start()
    recorder.minibatch(**numbers)
    recorder.record(update=0, policy_loss=0.1, value_loss=0.2, explained_variance=math.nan, extras={"x": math.nan})
    recorder.close()
    assert boxes(recorder) == []


def test_a_verdict_that_turns_critical_writes_once(start: Open) -> None:
    """The level of the hook counts, and only where it changes."""
    levels = iter(["healthy", "critical", "critical", "warning"])

    class Hook:
        level = "healthy"

        def __call__(self, row: object) -> None:
            self.level = next(levels)

    recorder = start(on_update=Hook())
    train(recorder, updates=4)
    assert [(box.record.trigger, box.record.seq) for box in boxes(recorder)] == [("critical", 1)]


def test_a_run_without_minibatches_has_no_black_box(start: Open) -> None:
    """Rows are in the run anyway."""
    recorder = start()
    assert not recorder.dump_black_box("why not")
    put(recorder, value_loss=math.nan)
    recorder.close("failed", "it failed")
    assert not (recorder.path / "rank-0000" / "blackbox").exists()


# ---------------------------------------------------------------------- how much


def test_the_last_512_are_kept(start: Open) -> None:
    """And another number if one is asked for."""
    for kept, options in ((512, {}), (3, {"black_box_minibatches": 3})):
        recorder = start(**options)
        for number in range(600):
            recorder.minibatch(n=float(number))
        assert recorder.dump_black_box("now")
        [box] = boxes(recorder)
        assert box.minibatches.column("n").to_pylist() == [float(n) for n in range(600 - kept, 600)]
        assert box.minibatches.column("minibatch").to_pylist() == list(range(600 - kept, 600))
    recorder = start(black_box_minibatches=0)
    recorder.minibatch(value_loss=math.nan)
    assert not recorder.dump_black_box("now")
    for wrong in (-1, 65_537):
        with pytest.raises(UsageError, match="black_box_minibatches must be 0 to 65,536"):
            start(black_box_minibatches=wrong)


def test_one_update_is_one_incident(start: Open) -> None:
    """A loss that is not finite, and all that follows from it; the end is told where something came in between."""
    recorder = start()
    train(recorder)
    recorder.minibatch(value_loss=math.inf)
    recorder.minibatch(value_loss=math.nan)
    recorder.record(update=3, skipped=True, skip_reason=1)
    recorder.close("failed", "too much")
    assert [(box.name, box.record.trigger) for box in boxes(recorder)] == [
        ("00000003", "not_finite"),
        ("00000004", "failed"),
    ]
    again = start()
    train(again)
    again.minibatch(value_loss=math.inf)
    again.close("failed", "too much")
    assert [box.record.trigger for box in boxes(again)] == ["not_finite"]


def test_a_training_that_stays_broken_fills_no_disk(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next of one kind has to wait; what it saw is written when its time has come, or at the end."""
    recorder = start()
    train(recorder)
    for update in range(3, 40):
        recorder.minibatch(value_loss=math.nan, at=float(update))
        recorder.record(update=update, policy_loss=0.1, value_loss=math.nan)
    assert [box.name for box in boxes(recorder)] == ["00000003"]
    recorder.close()
    first, second = boxes(recorder)
    assert second.name == "00000004"
    assert second.minibatches.column("at").to_pylist()[-1] == 4.0
    assert (first.record.not_written, second.record.not_written) == (0, 35)

    monkeypatch.setattr(black_box, "FIRST_PAUSE_SECS", 0.01)
    recorder = start()
    for update in range(5):
        recorder.minibatch(value_loss=math.nan)
        recorder.record(update=update, policy_loss=0.1, value_loss=math.nan)
        wait_until(lambda update=update: len(boxes(recorder)) == update + 1)  # type: ignore[misc]
        wait_until(lambda: not recorder._black_box.has_due)  # its file is there a moment before it is done with


def test_gradients_that_overflow_hide_no_loss(start: Open) -> None:
    """As with mixed precision: the loss that breaks later has its own black box at once."""
    recorder = start()
    for update in range(4):
        recorder.minibatch(grad_norm=math.inf, value_loss=1.0)
        recorder.record(update=update, policy_loss=0.1, value_loss=1.0)
    recorder.minibatch(grad_norm=math.nan, value_loss=math.nan)
    assert [box.record.reason for box in boxes(recorder)] == [
        "grad_norm is inf in minibatch 0",
        "value_loss is nan in minibatch 0",
    ]


def test_what_is_asked_for_is_bounded_too(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same update it gets a name of its own."""
    monkeypatch.setattr(black_box, "MAX_ASKED", 3)
    recorder = start()
    recorder.minibatch(n=1.0)
    assert [recorder.dump_black_box("now") for _ in range(5)] == [True, True, True, False, False]
    assert [box.name for box in boxes(recorder)] == ["00000000", "00000000-2", "00000000-3"]


# ---------------------------------------------------------------------- numbers and names


def test_every_kind_of_number(start: Open, caplog: pytest.LogCaptureFixture) -> None:
    """A number is what it was at the call, whatever happens to its tensor; what is none is left out and said once."""
    recorder = start()
    with np.errstate(all="raise"):
        recorder.minibatch(**{f"n{number}": np.float32(3e38) for number in range(5)})
    assert recorder.dump_black_box("large")
    weight = torch.ones((), requires_grad=True)
    shared, array = torch.tensor(5.0), np.array(6.0)
    for number in range(2):
        recorder.minibatch(
            a=1, b=True, c=np.float32(0.5), d=np.int64(7), e=(weight * 2).sum(), f=shared, g=array, h=torch.tensor([3])
        )
        shared.fill_(-1.0)
        array[...] = -1.0
        recorder.minibatch(
            a="text", b=None, c=2**53 + 1, d=torch.ones(2), e=torch.ones((), device="meta"), z=float(number)
        )
    assert recorder.dump_black_box("look")
    found = boxes(recorder)[1].minibatches
    assert found.column("n4")[0].as_py() == float(np.float32(3e38))
    first, second, third, _ = found.slice(1).select([*"abcdefgh", "z"]).to_pylist()
    assert first == {"a": 1, "b": 1, "c": 0.5, "d": 7, "e": 2, "f": 5, "g": 6, "h": 3, "z": None}
    assert second == dict.fromkeys("abcdefgh") | {"z": 0.0}
    assert (third["f"], third["g"]) == (-1, -1)
    said = [line for line in caplog.messages if "a number of a minibatch is left out" in line]
    assert len(said) == 4
    with pytest.raises(PayloadError, match="a must be one float64 number"):
        start(strict=True).minibatch(a="text")


def test_names_that_cannot_be_columns(start: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The first 64 that can be are kept."""
    recorder = start()
    names = {f"n{number}": float(number) for number in range(70)}
    recorder.minibatch(**{"seq": 9.0, "minibatch": 9.0, "rank": 9.0, "two\nlines": 9.0, "µ of mine": 1.0}, **names)
    assert recorder.dump_black_box("look")
    [box] = boxes(recorder)
    assert box.minibatches.column_names[3:] == ["µ of mine", *list(names)[:63]]
    assert (box.record.seq, box.minibatches.column("seq").to_pylist()) == (0, [0])
    assert any("'seq' is written by the recorder itself" in line for line in caplog.messages)
    assert any("at most 64 numbers" in line for line in caplog.messages)


def test_numbers_that_stay_on_their_device_arrive_exactly() -> None:
    """Of several dtypes, each minibatch with names of its own."""
    one, two = torch.tensor(1.1, dtype=torch.float64), torch.tensor(2.5)
    waiting = [
        keep_on_device({"a": one, "b": two, "c": torch.tensor([3], dtype=torch.int64)}, on_cuda=False),
        keep_on_device({"b": torch.tensor(4.0), "d": torch.tensor(5.5, dtype=torch.float64)}, on_cuda=False),
    ]
    two.fill_(0.0)
    assert fetch_together(waiting) == [{"a": 1.1, "b": 2.5, "c": 3.0}, {"b": 4.0, "d": 5.5}]
    with pytest.raises(PayloadError, match="d must be one number"):
        keep_on_device({"d": torch.ones(2)}, on_cuda=False)


# ---------------------------------------------------------------------- trouble


def test_a_disk_that_refuses_gets_it_later(
    start: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The training goes on meanwhile."""
    refusals = iter([OSError(errno.ENOSPC, "No space left on device")] * 2)
    write = durable.write_new

    def write_new(folder: Any, name: str, data: bytes) -> None:
        if name.startswith("blackbox/") and (error := next(refusals, None)) is not None:
            raise error
        write(folder, name, data)

    monkeypatch.setattr(durable, "write_new", write_new)
    monkeypatch.setattr(background, "WAIT_SECS", 0.0)
    recorder = start()
    recorder.minibatch(value_loss=math.inf)
    put(recorder)
    wait_until(lambda: len(boxes(recorder)) == 1)
    assert sum("a black box could not be written" in line for line in caplog.messages) == 1


def test_many_threads_fill_one_black_box(start: Open) -> None:
    """None waits for another, and none is lost."""
    recorder = start(black_box_minibatches=4000)

    def fill(thread: int) -> None:
        for number in range(1000):
            recorder.minibatch(thread=float(thread), number=float(number), loss=math.inf if number == 500 else 1.0)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.dump_black_box("all")
    last = boxes(recorder)[-1].minibatches
    for number in range(4):
        mine = last.filter(pa.compute.equal(last.column("thread"), float(number)))
        assert mine.column("number").to_pylist() == [float(n) for n in range(1000)]


def test_a_signal_handler_may_ask_for_it(start: Open) -> None:
    """Also in the middle of a row, where it cannot wait."""
    recorder = start()
    recorder.minibatch(n=1.0)
    answers = []
    before = signal.signal(signal.SIGUSR1, lambda *_: answers.append(recorder.dump_black_box("SIGUSR1")))
    try:

        class Value(float):
            def item(self) -> float:
                os.kill(os.getpid(), signal.SIGUSR1)
                return 1.0

        recorder.record(update=0, policy_loss=0.1, value_loss=Value(1.0))
        recorder.minibatch(n=2.0)
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(answers) == 2
    recorder.close()
    assert {box.record.reason for box in boxes(recorder)} == {"SIGUSR1"}


def test_a_closed_recorder_and_a_forked_child_take_nothing(start: Open) -> None:
    """And nothing is raised."""
    recorder = start()
    recorder.minibatch(n=1.0)
    child = os.fork()
    if child == 0:
        recorder.minibatch(value_loss=math.nan)
        os._exit(int(recorder.dump_black_box("in the child")))
    assert os.waitpid(child, 0)[1] == 0
    recorder.close()
    recorder.minibatch(value_loss=math.nan)
    assert not recorder.dump_black_box("too late")
    assert boxes(recorder) == []
