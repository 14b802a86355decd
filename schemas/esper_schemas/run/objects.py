"""Reads what is stored in an object store: `ObjectFolder` is a `Storage`, as `Folder` is one on a local disk.

An object store has no folders: a name is in a folder if its key begins with that of the folder. So:

- Names, sizes and whether something exists come from one list of all objects below a prefix.
- Small files that will be read one after another are fetched at once, if somebody says so (`read_ahead`).
- A large file is read in ranges: only the bytes that are asked for cross the network, neighbours together.

An object is whole or absent, and is never read in part while it is written.
"""

from __future__ import annotations

import errno
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from esper_schemas.errors import RunDamagedError
from esper_schemas.run.bucket import AHEAD_BYTES, Bucket, Listed, Range, Tree, bucket_of
from esper_schemas.run.storage import Fingerprint
from esper_schemas.run.store import StoreUrl

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TAIL_BYTES = 64 * 1024
"""The end of a file is read in so many bytes: the footer of a Parquet file is there, and often the whole file."""

_TRIES = 3


class ObjectFolder:
    """A prefix in an object store, as a folder of files; see `Storage`, which has the errors that are raised.

    Each method also raises StoreError if the store does not answer or refuses.
    """

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree = tree
        self._key = key

    @classmethod
    def at(cls, url: StoreUrl) -> Self:
        """Open the folder that a person named.

        Raises:
            FileNotFoundError: there are no objects below this URL.
        """
        tree = bucket_of(url).tree(url.key)
        if not tree.is_folder(url.key):
            raise FileNotFoundError(errno.ENOENT, "No objects", str(url))
        return cls(tree, url.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Do nothing: connections are kept for the next folder."""

    @property
    def url(self) -> StoreUrl:
        """Where it is."""
        return StoreUrl(self._tree.bucket.root, self._key)

    def where(self, name: str = "") -> str:
        """The URL of a file, for messages."""
        return str(self.url / name)

    def folder(self, name: str) -> ObjectFolder:
        """A folder inside it."""
        key = self._at(name)
        if self._tree.is_folder(key):
            return ObjectFolder(self._tree, key)
        if key in self._tree.objects:
            raise RunDamagedError(f"{self.where(name)}: expected a folder, found an object")
        raise FileNotFoundError(errno.ENOENT, "No objects", self.where(name))

    def names(self, folder: str = "") -> list[str]:
        """Names in a folder, sorted."""
        try:
            return self._tree.names(self.folder(folder)._key if folder else self._key)
        except FileNotFoundError:
            return []

    def is_folder(self, name: str) -> bool:
        """Whether a name is a folder."""
        return self._tree.is_folder(self._at(name))

    def exists(self, name: str) -> bool:
        """Whether anything has that name."""
        return self.is_folder(name) or self._at(name) in self._tree.objects

    def size(self, name: str) -> int:
        """Size of an object in bytes."""
        return self._listed(name).size

    def read(self, name: str, limit: int) -> bytes:
        """Read a whole object. If another version was put in its place since it was listed, list the folder again."""
        for _ in range(_TRIES):
            listed = self._listed(name)
            if listed.size > limit:
                raise RunDamagedError(f"{self.where(name)}: expected at most {limit:,} bytes, found {listed.size:,}")
            data, version = self._tree.bucket.whole(self._at(name), listed)
            if version == listed.version:
                break
            self._tree.list_again()
            if self._tree.objects.get(self._at(name)) == listed:  # a store that words its versions in two ways
                break
        if len(data) > limit:
            raise RunDamagedError(f"{self.where(name)}: expected at most {limit:,} bytes, found {len(data):,}")
        return data

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading; nothing is fetched yet. Its `fetch` says which bytes will be read."""
        return cast(BinaryIO, ObjectFile(self._tree.bucket, self._at(name), self._listed(name)))

    def read_ahead(self, folders: Iterable[str]) -> None:
        """Fetch the JSON files of some folders at once, as they will be read one after another."""
        at = [self._at(folder) for folder in folders]
        names = [f"{folder}/{name}" for folder in at for name in self._tree.names(folder) if name.endswith(".json")]
        there = {name: self._tree.objects[name] for name in names if name in self._tree.objects}
        self._tree.bucket.fetch_all({name: of for name, of in there.items() if of.size <= AHEAD_BYTES})

    def fingerprint(self) -> Fingerprint | None:
        """Return the state of everything in it, as it was listed."""
        lines = [f"{key}\0{listed}" for key, listed in self._below()]
        newest = max((listed.changed_ns for _, listed in self._below()), default=0)
        return Fingerprint(hashlib.sha256("\0".join([str(self.url), *lines]).encode()).hexdigest(), newest)

    def _below(self) -> Iterator[tuple[str, Listed]]:
        prefix = f"{self._key}/" if self._key else ""
        for key, listed in self._tree.objects.items():
            if key.startswith(prefix):
                yield key, listed

    def _at(self, name: str) -> str:
        return (self.url / name).key

    def _listed(self, name: str) -> Listed:
        key = self._at(name)
        if self._tree.is_folder(key):
            raise RunDamagedError(f"{self.where(name)}: expected a file, found a folder")
        if key not in self._tree.objects:
            raise FileNotFoundError(errno.ENOENT, "No such object", self.where(name))
        return self._tree.objects[key]


class ObjectFile(io.RawIOBase):
    """An object that is read in ranges. Seeking costs nothing; `fetch` gets what will be read in few requests."""

    def __init__(self, bucket: Bucket, key: str, listed: Listed) -> None:
        self._bucket, self._key, self._listed = bucket, key, listed
        self._at = 0

    def fetch(self, ranges: Sequence[Range]) -> None:
        """Fetch bytes that will be read: those of these ranges that are not there yet, at once."""
        self._bucket.fetch(self._key, self._listed, ranges)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read from there next."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._listed.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer; at the end, and of what was not fetched, somewhat more is fetched than is asked for."""
        view = memoryview(buffer).cast("B")
        end = self._listed.size
        stop = min(end, self._at + len(view))
        if stop <= self._at:
            return 0
        tail = max(0, end - TAIL_BYTES)
        ahead = (tail, end) if self._at >= tail else (self._at, min(end, max(stop, self._at + TAIL_BYTES)))
        found = self._bucket.read(self._key, self._listed, (self._at, stop), ahead)
        view[: len(found)] = found
        self._at += len(found)
        return len(found)
