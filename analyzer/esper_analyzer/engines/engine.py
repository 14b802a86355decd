"""The interface of an engine: a function called for batches of items by workers, any of which may die.

    with open_engine("local") as engine:
        for result in engine.map(function, items):  # in the order of the items, whoever worked on them
            ...

Items are handed out in batches, and the function returns a result for each item of one. If a worker dies, its batch is
handed out again, each item alone, so that a worker that somebody killed costs time and nothing else. An item that is
alone with its worker each time that one dies is `Lost` in the end; the others go on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from esper_schemas.errors import EsperError

BATCH = 50
"""So many items are handed out at once at most: what handing them out costs is then small beside judging 50 runs."""

BATCHES_PER_WORKER = 4
"""Of fewer items, each worker gets at least so many batches, so that all are busy until the end."""

MAX_DEATHS = 3
"""An item is lost after so many workers died while they had nothing else to work on."""

POLARS_THREADS = "POLARS_MAX_THREADS"
"""The environment variable by which polars has one thread in each worker, since there is a worker for each core."""

_HOPELESS_DEATHS = 20
"""After so many deaths without one result, no worker can work at all."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lost:
    """In place of the result of an item whose worker died each time.

    Attributes:
        deaths: how many workers died.
        cause: how the last of them died, such as `SIGKILL`, as far as the engine knows.
    """

    deaths: int
    cause: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A batch that a worker has left.

    Attributes:
        batch: the places of its items.
        results: one for each of them; None if the worker died.
        cause: how it died.
    """

    batch: range
    results: list[Any] | None
    cause: str = ""


class WorkersFailedError(EsperError):
    """No worker can work: each dies before it has finished anything, or the cluster cannot be used."""


class Engine(ABC):
    """Workers that call a function. Leaving its `with` block ends those that it has started, whatever they do.

    Attributes:
        name: what users call it.
        workers: how many work at the same time.
    """

    name: ClassVar[str]
    workers: int

    def map(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> Iterator[Result | Lost]:
        """Begin to work, and yield the result of each item when it is asked for, in the order of the items.

        Args:
            function: is called with a batch of items, in another process, and returns a result for each. The results
                should depend on nothing else. It, the items and the results are pickled: a function is named there, so
                the workers must be able to import it.
            items: what there is to do.

        Raises:
            WorkersFailedError: no worker can work.
            Exception: what the function raises for one of the items. It should raise nothing that is to be survived.
        """
        waiting = self._batches(len(items))
        begun = self._begin_some(function, items, waiting, 0)
        return self._results(function, items, waiting, begun)

    def _begin_some(
        self, function: Callable[[Any], Any], items: Sequence[Any], waiting: deque[range], begun: int
    ) -> int:
        """Begin as many of the waiting batches as may be worked on at once; return how many are begun now."""
        while waiting and begun < self._at_once:
            batch = waiting.popleft()
            self._begin(function, items[batch.start : batch.stop], batch)
            begun += 1
        return begun

    def _results(
        self, function: Callable[[Any], Any], items: Sequence[Any], waiting: deque[range], begun: int
    ) -> Iterator[Any]:
        done: dict[int, Any] = {}
        deaths: Counter[int] = Counter()
        died = 0
        has_result = False
        for place in range(len(items)):
            while place not in done:
                begun = self._begin_some(function, items, waiting, begun)
                ended, begun = self._wait(), begun - 1
                first = ended.batch.start
                if ended.results is not None:
                    has_result = True
                    done.update(zip(ended.batch, ended.results, strict=True))
                    continue
                died += 1
                if died >= _HOPELESS_DEATHS and not has_result:
                    raise WorkersFailedError(
                        f"{died} workers died ({ended.cause}), and none of them had a result; is there memory for them?"
                    )
                if len(ended.batch) > 1:
                    waiting.extendleft(range(one, one + 1) for one in reversed(ended.batch))
                    continue
                deaths[first] += 1
                if deaths[first] < MAX_DEATHS:
                    waiting.append(ended.batch)  # at the end: others may have left the memory that it needs by then
                else:
                    done[first] = Lost(deaths[first], ended.cause)
            yield done.pop(place)

    def _batches(self, count: int) -> deque[range]:
        size = min(BATCH, -(-count // (BATCHES_PER_WORKER * self.workers)) or 1)
        return deque(range(start, min(start + size, count)) for start in range(0, count, size))

    @property
    def _at_once(self) -> int:
        """So many batches are begun at most before one of them has to end."""
        return self.workers

    @abstractmethod
    def _begin(self, function: Callable[[Any], Any], items: Sequence[Any], batch: range) -> None:
        """Hand a batch to a worker. `_wait` returns it later, exactly once, even if the worker is dead by now."""

    @abstractmethod
    def _wait(self) -> Ended:
        """Wait until a worker leaves a batch. Raises what the function raised."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
