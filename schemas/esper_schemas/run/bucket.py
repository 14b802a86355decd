"""What is known of a bucket of an object store: the list of its objects, and the bytes that were fetched of them.

- One request lists all objects below a prefix, 1,000 an answer, with size and version. The list counts for
  `LISTED_SECS`, since one command looks at a run several times.
- Bytes that were fetched are kept, up to `KEPT_BYTES`, as long as the list names the same version of the object.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from esper_schemas.errors import StoreError
from esper_schemas.run.store import StoreUrl, open_store, store_errors

if TYPE_CHECKING:
    from obstore.store import ObjectStore

LISTED_SECS = 1.0
"""What was listed counts for so long."""

KEPT_BYTES = 128 * 1024 * 1024
"""A process keeps so many bytes of the objects of a bucket at most."""

MAX_OBJECTS = 1_000_000
"""A prefix with more objects than this is not listed."""

AHEAD_BYTES = 1024 * 1024
"""A larger file is not fetched before it is asked for."""

_COALESCED = 32 * 1024  # ranges that are nearer to each other are fetched in one request
_AT_ONCE = 32
_KEPT_BUCKETS = 8

Range = tuple[int, int]
"""First byte, and the one behind the last."""


class Listed(NamedTuple):
    """An object as it was listed: its size in bytes, what tells its version from others, and when it was written."""

    size: int
    version: str
    changed_ns: int


class Tree:
    """All objects below a prefix of a bucket, as they were listed.

    Attributes:
        objects: key → object; those without bytes that only mark a folder are left out.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.list_again()

    def list_again(self) -> None:
        """List the objects anew."""
        self.objects = self.bucket.list(self.prefix)
        self.listed_at = time.monotonic()
        folders: dict[str, set[str]] = {}
        for key in self.objects:
            folder, _, name = key.rpartition("/")
            while name not in folders.setdefault(folder, set()):
                folders[folder].add(name)
                if not folder:
                    break
                folder, _, name = folder.rpartition("/")
        self._folders = {folder: sorted(names) for folder, names in folders.items()}

    def is_folder(self, key: str) -> bool:
        """Whether there are objects below a prefix."""
        return key in self._folders

    def names(self, key: str) -> list[str]:
        """The names directly below a prefix, sorted."""
        return self._folders.get(key, [])


class Kept:
    """Bytes of one version of an object that were fetched, in parts, in the order in which they begin."""

    def __init__(self) -> None:
        self.lock = Lock()  # held while bytes are fetched, so that nothing is fetched twice
        self.parts: list[tuple[int, bytes]] = []

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(len(data) for _, data in self.parts)

    def gaps(self, wanted: Range) -> Iterator[Range]:
        """The ranges within a range that are not there."""
        at, stop = wanted
        for start, data in self.parts:
            if start >= stop:
                break
            if start > at:
                yield at, start
            at = max(at, start + len(data))
        if at < stop:
            yield at, stop

    def read(self, wanted: Range) -> bytes:
        """The bytes of a range that has no gaps."""
        at, stop = wanted
        found = []
        for start, data in self.parts:
            if start <= at < min(stop, start + len(data)):
                found.append(data[at - start : stop - start])
                at += len(found[-1])
        return b"".join(found)


class Bucket:
    """A bucket: its connections, what was listed of it just now, and what was fetched."""

    def __init__(self, root: str, store: ObjectStore) -> None:
        self.root, self.store = root, store
        self._trees: dict[str, Tree] = {}
        self._kept: OrderedDict[tuple[str, Listed], Kept] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def where(self, key: str) -> str:
        """The URL of an object, for messages."""
        return str(StoreUrl(self.root, key))

    def tree(self, key: str) -> Tree:
        """What is below a prefix, as it was listed within the last `LISTED_SECS`."""
        now = time.monotonic()
        with self._lock:
            self._trees = {prefix: tree for prefix, tree in self._trees.items() if now - tree.listed_at < LISTED_SECS}
            for prefix, tree in self._trees.items():
                if not prefix or f"{key}/".startswith(f"{prefix}/"):
                    return tree
        listed = Tree(self, key)
        with self._lock:
            self._trees[key] = listed
        return listed

    def list(self, prefix: str) -> dict[str, Listed]:
        """List all objects below a prefix: key → object; those that only mark a folder are left out."""
        import obstore

        found: dict[str, Listed] = {}
        with store_errors(self.where(prefix)):
            for page in obstore.list(self.store, prefix or None, chunk_size=1000):
                for meta in page:
                    version = _version(meta["e_tag"]) or f"{meta['last_modified']}"
                    changed = round(meta["last_modified"].timestamp() * 1e9)
                    if meta["size"] or "." in meta["path"].rpartition("/")[2]:
                        found[meta["path"]] = Listed(meta["size"], version, changed)
                if len(found) > MAX_OBJECTS:
                    raise StoreError(f"{self.where(prefix)} has more than {MAX_OBJECTS:,} objects; name a folder in it")
        return found

    def whole(self, key: str, listed: Listed) -> tuple[bytes, str]:
        """Bytes and version of an object; the version is "" if it is another one than was listed."""
        kept = self._kept_of(key, listed)
        with kept.lock:
            if not next(kept.gaps((0, listed.size)), None):
                return kept.read((0, listed.size)), listed.version
        return self._get(key, listed)

    def _get(self, key: str, listed: Listed) -> tuple[bytes, str]:
        import obstore

        with store_errors(self.where(key)):
            answer = obstore.get(self.store, key)
            if answer.meta["size"] > max(listed.size, 2 * AHEAD_BYTES):
                return b"", ""  # far larger than it was listed: the list is old
            data, version = bytes(answer.bytes()), _version(answer.meta["e_tag"]) or listed.version
        if version != listed.version or len(data) != listed.size:
            return data, ""
        self._keep(key, listed, [(0, data)], self._kept_of(key, listed))
        return data, version

    def fetch_all(self, wanted: dict[str, Listed]) -> None:
        """Fetch whole objects at once; those that are gone are left out."""
        absent = {key: of for key, of in wanted.items() if next(self._kept_of(key, of).gaps((0, of.size)), None)}
        if len(absent) < 2:
            return

        def fetch(item: tuple[str, Listed]) -> None:
            with suppress(FileNotFoundError):  # whoever reads it finds out
                self._get(*item)

        with ThreadPoolExecutor(min(_AT_ONCE, len(absent))) as pool:
            list(pool.map(fetch, absent.items()))

    def fetch(self, key: str, listed: Listed, ranges: Sequence[Range]) -> None:
        """Fetch those bytes of some ranges of an object that are not there yet."""
        kept = self._kept_of(key, listed)
        with kept.lock:
            self._fetch(key, listed, kept, ranges)

    def read(self, key: str, listed: Listed, wanted: Range, ahead: Range) -> bytes:
        """Bytes of an object; if some are not there yet, those of `ahead`, which has them in it, are fetched."""
        kept = self._kept_of(key, listed)
        with kept.lock:
            if next(kept.gaps(wanted), None):
                self._fetch(key, listed, kept, [ahead])
            return kept.read(wanted)

    def _fetch(self, key: str, listed: Listed, kept: Kept, ranges: Sequence[Range]) -> None:
        import obstore

        gaps = [gap for wanted in merged(ranges) for gap in kept.gaps(wanted)]
        if not gaps:
            return
        starts, ends = zip(*gaps, strict=True)
        with store_errors(self.where(key)):
            found = obstore.get_ranges(self.store, key, starts=starts, ends=ends, coalesce=_COALESCED)
            parts = [(start, bytes(part)) for start, part in zip(starts, found, strict=True)]
        if any(len(data) != stop - start for (start, data), stop in zip(parts, ends, strict=True)):
            raise StoreError(f"{self.where(key)}: the store sent fewer bytes than the object has; try again")
        self._keep(key, listed, parts, kept)

    def _kept_of(self, key: str, listed: Listed) -> Kept:
        with self._lock:
            kept = self._kept.setdefault((key, listed), Kept())
            self._kept.move_to_end((key, listed))
            return kept

    def _keep(self, key: str, listed: Listed, parts: Sequence[tuple[int, bytes]], kept: Kept) -> None:
        entry = key, listed
        with self._lock:
            self._bytes -= kept.size if self._kept.get(entry) is kept else 0
            kept.parts = sorted([*kept.parts, *parts], key=lambda part: part[0])
            self._kept[entry] = kept
            self._bytes += kept.size
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].size


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as ranges that do not overlap, in order."""
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _version(tag: str | None) -> str:
    return (tag or "").removeprefix("W/").strip('"')


_BUCKETS: OrderedDict[int, Bucket] = OrderedDict()  # by the id of the store, which the bucket holds


def bucket_of(url: StoreUrl) -> Bucket:
    """The bucket that a URL is in; the same one as long as the environment is the same."""
    store = open_store(url)
    bucket = _BUCKETS.get(id(store))
    if bucket is None:
        bucket = _BUCKETS[id(store)] = Bucket(url.root, store)
        while len(_BUCKETS) > _KEPT_BUCKETS:
            _BUCKETS.popitem(last=False)
    return bucket
