"""When a signal takes effect, with real signals to this process."""

from __future__ import annotations

import os
import signal

import pytest

from esper_recorder.train.signals import Signals


def send(number: signal.Signals) -> None:
    """Send a signal to this process; its handler has run when this returns."""
    os.kill(os.getpid(), number)
    signal.sigpending()  # Python runs handlers between two calls


def test_only_the_first_signal_interrupts_once_the_rest_are_ignored() -> None:
    """The first raises at once; after `ignore`, as while a run is sealed, no number of further ones does."""
    signals = Signals()
    with signals.installed():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        signals.ignore()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            send(number)
    assert signals.name == "SIGTERM"


def test_a_signal_in_a_deferred_block_waits_for_the_next_check() -> None:
    """It is noted, and raises where it can do no harm."""
    signals = Signals()
    with signals.installed(), signals.deferred():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signals.check()
    assert signals.name == "SIGINT"


def test_a_process_that_seems_stuck_is_interrupted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal raises even in a deferred block, if the first has had no effect for long."""
    monkeypatch.setattr("esper_recorder.train.signals.PATIENCE_SECS", -1.0)
    signals = Signals()
    with signals.installed(), signals.deferred(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
