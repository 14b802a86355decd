"""Workers that are tasks of a Ray cluster. Only this module touches Ray, and imports it when an engine is entered."""

from __future__ import annotations

import io
import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from types import TracebackType
from typing import Any, Self

from esper_analyzer.caching.code import code_digest
from esper_analyzer.engines.engine import Ended, Engine, WorkersFailedError
from esper_analyzer.engines.ray_task import answer
from esper_schemas.errors import UsageError

ADDRESS = "--address"

_AT_ONCE = 1000
"""So many tasks wait in the cluster at most. A cluster that grows with its work sees them."""

_CONNECT_SECS = 10.0
"""Ray itself tries for minutes to reach a cluster that is not there."""


_LOOK_SECS = 5.0
"""If no task ends for so long, the head of the cluster is asked whether it is still there."""

_LOOKS = 3

_FEW_TRIES = ("RAY_NUM_REDIS_GET_RETRIES", "2")
"""What listens at an address may be no Ray cluster; Ray asks it for a quarter of an hour, and so for a minute."""


class RayEngine(Engine):
    """The workers of a Ray cluster, one task for each batch. While it is entered, nothing reaches standard output.

    Every node must have the same code as this process, with the same versions of what it computes with, and see the
    same files under the same paths. It is sent the name of a function of ours, and pickled data.

    Args:
        address: `HOST:PORT` of the cluster, or `auto` for one that was started on this machine. By default that of
            RAY_ADDRESS, else as `auto`; if there is none, one is started here, and ends with this engine.
        workers: how many tasks are begun at most before one has to end; by default the cluster decides.

    Raises:
        UsageError: on entering: Ray is not installed, or `address` is no address.
        WorkersFailedError: on entering: there is no cluster at `address`, or it cannot be used.
    """

    name = "ray"

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address, self._most = address, workers
        self.workers = workers or 1
        self._begun: dict[Any, range] = {}
        self._held = ExitStack()

    @property
    def _at_once(self) -> int:
        return self._most or _AT_ONCE

    def __enter__(self) -> Self:
        if self._address not in (None, "auto"):
            _check_reachable(self._address)
        os.environ.setdefault(*_FEW_TRIES)
        try:
            import ray
        except ModuleNotFoundError:
            raise UsageError("--engine ray needs Ray, which is not installed: pip install 'ray>=2.50'") from None
        self._held.enter_context(redirect_stdout(io.StringIO()))  # where Ray prints a paragraph for each death
        try:
            ray.init(self._address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
        except (OSError, ValueError, RuntimeError) as error:
            self._held.close()
            raise _unusable(error) from None
        self._held.callback(ray.shutdown)
        self.workers = self._most or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        self._task = ray.remote(max_retries=0, num_cpus=1)(answer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()  # Ray ends the tasks of a process that leaves

    def _begin(self, function: Callable[[Any], Any], items: Sequence[Any], batch: range) -> None:
        self._begun[self._task.remote(pickle.dumps((function, items)), code_digest())] = batch

    def _wait(self) -> Ended:
        import ray
        from ray import exceptions

        while not (ended := ray.wait(list(self._begun), num_returns=1, timeout=_LOOK_SECS)[0]):
            self._check_alive()
        done = ended[0]
        batch = self._begun.pop(done)
        try:
            results, error = pickle.loads(ray.get(done))
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.ObjectLostError) as lost:
            return Ended(batch, None, type(lost).__name__)
        except exceptions.OutOfMemoryError:
            return Ended(batch, None, "out of memory")
        except exceptions.RayError as failed:
            raise _unusable(failed) from None
        if error is not None:
            raise error
        return Ended(batch, results)

    def _check_alive(self) -> None:
        """Raise WorkersFailedError if the head of the cluster is gone. Ray itself would end this process with 1."""
        import ray

        address = ray.get_runtime_context().gcs_address
        for _ in range(_LOOKS):
            try:
                _connect(address)
                return
            except OSError as error:
                reason = error.strerror or str(error)
            time.sleep(_LOOK_SECS)
        raise WorkersFailedError(
            f"the Ray cluster at {address} answers no longer ({reason}); what was judged is kept,"
            " and the same command goes on from there"
        )


def _connect(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECS).close()


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and int(port) < 65536) or "/" in host:
        raise UsageError(f"{ADDRESS} must be HOST:PORT of a Ray cluster, or auto; found {address!a}")
    try:
        _connect(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WorkersFailedError(
            f"no Ray cluster answers at {address} ({reason}); `ray start --head` starts one"
        ) from None


def _unusable(error: Exception) -> WorkersFailedError:
    """Return an error of Ray, which may have many lines, as one of one line."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return WorkersFailedError(f"the Ray cluster cannot be used: {type(error).__name__}: {said[-1] if said else ''}")
