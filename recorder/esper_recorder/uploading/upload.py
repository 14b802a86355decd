"""Uploads one run: again and again what is finished by now, until a fresh listing shows that everything is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from esper_recorder.uploading.at_once import at_once
from esper_recorder.uploading.plan import File, Key, Plan, Rule, plan_run
from esper_recorder.uploading.redaction import Redaction
from esper_recorder.uploading.remote import RemoteRun
from esper_schemas.console import progress
from esper_schemas.errors import NotARunError, StoreError
from esper_schemas.run.directory import RunDirectory
from esper_schemas.run.names import HEADER_NAME, rank_numbers
from esper_schemas.run.records import check_run_id
from esper_schemas.run.store import StoreUrl

POLL_SECS = 1.0
"""A run that is still recorded is looked at so often."""

TRIES = 7
"""An upload ends when the store has failed so many times, and nothing was uploaded in between."""

FIRST_WAIT_SECS, LONGEST_WAIT_SECS = 0.5, 16.0
"""After a failure it waits so long, then twice as long each time."""

MIN_BYTES = 16 * 1024 * 1024
"""Less than this is uploaded too fast for a progress bar to be read."""

_MOST_LISTINGS = 100  # of a store that goes on losing what it was given
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of the upload of a run.

    Attributes:
        run_id: the name of the run.
        url: where it is now.
        objects, bytes: how much of the run is there.
        new_objects, new_bytes: how much of that was put there by this upload.
        is_over: whether the run is complete there; False if it is still recorded.
        has_rows: whether any rows were recorded; nothing is uploaded otherwise.
    """

    run_id: str
    url: StoreUrl
    objects: int
    bytes: int
    new_objects: int
    new_bytes: int
    is_over: bool
    has_rows: bool


class Uploader:
    """Uploads one run below a URL.

    Args:
        run: the run.
        url: the URL that the run is put below, under its run id.
        redaction: what is left out.
        rank: the only rank to upload; None uploads all.
        follow: whether to go on while the run is recorded.
        note: called with one line when the store fails, and when it answers again.

    Raises:
        UsageError: the run id is no name, or the store cannot be used.
        NotARunError, RunUnreadableError, RunDamagedError, FormatVersionError: the run cannot be read.
    """

    def __init__(
        self,
        run: RunDirectory,
        url: StoreUrl,
        redaction: Redaction,
        *,
        rank: int | None = None,
        follow: bool = False,
        note: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.run_id = check_run_id(run.header().run_id)
        self._path = run.path
        self._folder = run.open()
        self._redaction, self._rank, self._follow, self._note = redaction, rank, follow, note
        self._remote = RemoteRun(url / self.run_id)
        self._done: dict[Key, int | None] = {}
        self._new: dict[str, int] = {}  # name → size of what was put
        self._puts: list[str] = []  # the name of what was put, each time
        self._is_listed, self._listings = False, 0
        self._failures, self._has_advanced = 0, False
        self._advance: Callable[[int], None] = lambda _bytes: None

    def upload(self) -> Uploaded:
        """Upload what is finished, and with `follow` what will be, until all of it is there.

        Raises:
            RunExistsError: another object has the name of one of the run's; it is left as it is.
            RunDamagedError: a file is not what its record says.
            StoreError: the store does not answer, or refuses, after all tries. What was uploaded stays.
            OSError: a file cannot be read.
        """
        with ExitStack() as stack:
            while True:
                try:
                    plan, is_complete = self._pass(stack)
                except StoreError as error:
                    self._wait_after(error)
                    continue
                if is_complete:
                    return self._result(plan)
                if self._follow and not plan.is_over:
                    time.sleep(POLL_SECS)
                elif self._listings >= _MOST_LISTINGS:
                    raise StoreError(f"{self._remote.url}: the store loses objects that it took; check the store")
                else:
                    self._is_listed = False  # the next pass looks whether all of it is there

    def _pass(self, stack: ExitStack) -> tuple[Plan, bool]:
        """Upload what is finished by now, and was not uploaded before.

        Returns:
            The plan, and whether a listing has shown that nothing of it is missing, and nothing will be added to it; of
            a run that is still recorded, and not followed, that nothing was missing that was uploaded before.
        """
        was_listed, lost, puts = self._is_listed, 0, len(self._puts)
        if not was_listed:
            lost = self._list()
        plan = self._plan()
        if self._listings == 1 and not self._follow:
            total = sum(file.size for group in plan.groups for file in group)
            self._advance = stack.enter_context(
                progress(f"uploading {self.run_id}", total, at_least=MIN_BYTES, is_bytes=True)
            )
        self._send(plan)
        if self._failures:
            self._note(f"{self._remote.url}: the store answers again")
        self._failures, self._has_advanced = 0, False
        if was_listed or (self._follow and not plan.is_over):
            return plan, False
        is_as_before = self._listings > 1 and not lost and not plan.is_over
        return plan, is_as_before or len(self._puts) == puts

    def _list(self) -> int:
        """List what is there; return how many objects that were there before have gone.

        The header, and records that are replaced, are compared again, whatever their size.
        """
        at_once([self._remote.list])
        self._is_listed = True
        self._listings += 1
        sizes = self._remote.sizes
        put_once = {key: size for key, size in self._done.items() if key[1] is Rule.ONCE and key[0] != HEADER_NAME}
        self._done = {key: size for key, size in put_once.items() if sizes.get(key[0]) == size}
        return len(put_once) - len(self._done)

    def _plan(self) -> Plan:
        there = rank_numbers(self._folder)
        ranks: Sequence[int] = there if self._rank is None else [self._rank]
        if self._rank is not None and self._rank not in there:
            raise NotARunError(f"{self._path} has no rank {self._rank}, only {there}")
        for tries_left in (2, 1, 0):
            try:
                return plan_run(self._folder, ranks, self._redaction, self._done)
            except FileNotFoundError as error:  # a recorder that begins removes what one before it left
                if error.filename == self._folder.where(HEADER_NAME):
                    raise NotARunError(f"{self._path} is not an Esper run: it has no {HEADER_NAME}") from None
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    def _send(self, plan: Plan) -> None:
        """Upload the files of a plan, in its order. What is there by its size is compared first, many at once."""
        sizes = self._remote.sizes
        there = [file for group in plan.groups for file in group if file.rule is Rule.ONCE]
        there = [file for file in there if sizes.get(file.name) == file.size]
        for start in range(0, len(there), _AT_ONCE):
            at_once([partial(self._compare, file) for file in there[start : start + _AT_ONCE]])
        for group in plan.groups:
            at_once([partial(self._put, file) for file in group if file.key not in self._done])

    def _compare(self, file: File) -> None:
        if self._remote.has(file):
            self._has_done(file)

    def _put(self, file: File) -> None:
        if self._remote.put(file):
            self._puts.append(file.name)
            self._new[file.name] = file.size
        self._has_done(file)

    def _has_done(self, file: File) -> None:
        self._done[file.key] = self._remote.sizes.get(file.name)  # None: it was left out
        self._has_advanced = True
        self._advance(file.size)

    def _wait_after(self, error: StoreError) -> None:
        """Wait before the next try; raise `error` if there is none."""
        self._is_listed = False
        self._failures = 1 if self._has_advanced else self._failures + 1
        self._has_advanced = False
        goes_on = self._follow and not self._plan().is_over
        if not (self._listings or self._follow):
            raise error  # a wrong URL, or wrong credentials: that does not pass
        if not goes_on and self._failures >= TRIES:
            raise StoreError(f"{error}; what was uploaded stays there, and the same upload again adds the rest")
        if self._failures == 1:
            self._note(f"{error}; it is tried again")
        time.sleep(min(FIRST_WAIT_SECS * 2 ** (self._failures - 1), LONGEST_WAIT_SECS))

    def _result(self, plan: Plan) -> Uploaded:
        sizes = {name: size for (name, _), size in self._done.items() if size is not None}
        return Uploaded(
            self.run_id,
            self._remote.url,
            len(sizes),
            sum(sizes.values()),
            len(self._new),
            sum(self._new.values()),
            plan.is_over,
            plan.has_rows,
        )
