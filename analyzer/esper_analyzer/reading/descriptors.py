"""Opens the files of sealed segments, and raises the limit on open files if the run needs more.

A frame keeps one descriptor open for each of its sealed segments as long as the frame lives.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from esper_analyzer.reading.segment_index import Piece
from esper_schemas.errors import UsageError

_SHARE = 4  # one frame takes at most a quarter of the limit: other frames exist, and threads open files too
_SPARE = 64  # descriptors for everything else, if the limit cannot be raised further


def open_pieces(pieces: Sequence[Piece], files: ExitStack) -> list[IO[bytes]]:
    """Open the files of sealed segments, which `files` closes; raise the limit on open files if necessary.

    Raises:
        UsageError: more files would be open than the system allows.
        RunDamagedError, OSError: as `Piece.open`.
    """
    _make_room(len(pieces))
    try:
        return [files.enter_context(piece.open()) for piece in pieces]
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise _too_many(len(pieces)) from None
        raise


def _make_room(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _wanted(files)
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    except (ValueError, OSError):  # the system has a limit of its own below the hard one
        pass
    if 2 * files + _SPARE > soft:  # polars duplicates each descriptor before ours are closed
        raise _too_many(files)


def _wanted(files: int) -> int:
    return _SHARE * files + _SPARE


def _too_many(files: int) -> UsageError:
    return UsageError(
        f"the run has {files:,} sealed segments, more than the number of files that may be open;"
        f" raise the limit: ulimit -n {_wanted(files)}"
    )
