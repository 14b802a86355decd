"""What a place where runs are stored can be asked: the protocol that readers work with, wherever a run is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable


class Fingerprint(NamedTuple):
    """The state of everything in a folder, without the contents of the files.

    Only the kernel sets the time of a change (ctime). So two equal fingerprints mean that nothing was changed in
    between, unless that was within `SETTLED_NS` of an earlier change: the clock of these times ticks slowly.

    Attributes:
        digest: sha256 in hexadecimal, over path, type, inode, size, mtime and ctime of everything in the folder.
        changed_ns: the newest of these ctimes, in nanoseconds since 1970.
    """

    digest: str
    changed_ns: int


SETTLED_NS = 100_000_000
"""A change that is this many nanoseconds old has another ctime than the next one; a tick of the clock is 1 to 10 ms."""


class Storage(Protocol):
    """A place where a run is stored, open for reading: `Folder` on a disk, `ObjectFolder` in an object store.

    Used in a `with` statement, it is closed at the end of the block.
    """

    def __enter__(self) -> Storage: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """Close it; calling it again does nothing."""

    def where(self, name: str = "") -> str:
        """The location of a file, for messages."""

    def folder(self, name: str) -> Storage:
        """A folder inside it, as a storage of its own.

        Raises:
            FileNotFoundError: it does not exist.
            RunDamagedError: it is not a folder.
            OSError: it cannot be opened.
        """

    def names(self, folder: str = "") -> list[str]:
        """Names in a folder, sorted; empty if the folder does not exist.

        Raises:
            RunDamagedError: it is not a folder.
            OSError: it cannot be listed.
        """

    def is_folder(self, name: str) -> bool:
        """Whether a name is a folder, and not a link to one."""

    def exists(self, name: str) -> bool:
        """Whether anything has that name."""

    def size(self, name: str) -> int:
        """Size of a file in bytes.

        Raises:
            FileNotFoundError: it does not exist.
            RunDamagedError: it is not a regular file.
            OSError: reading its status failed.
        """

    def read(self, name: str, limit: int) -> bytes:
        """Read a whole file of at most `limit` bytes.

        Raises:
            RunDamagedError: as in `size`, or the file is larger.
            OSError: as in `size`, or reading failed.
        """

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading, with random access; raises like `size`."""

    def read_ahead(self, folders: Iterable[str]) -> None:
        """Say that the JSON files of some folders will be read one after another, so that far ones come at once."""

    def fingerprint(self) -> Fingerprint | None:
        """Return the state of everything in it, at any depth; None if it has more in it than a run can have.

        Raises:
            OSError: a folder inside it cannot be listed.
        """


@runtime_checkable
class RangedFile(Protocol):
    """A file that is far away, of which bytes are fetched at once if somebody says which will be read."""

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch ranges of bytes, each the first byte and the one behind the last."""
