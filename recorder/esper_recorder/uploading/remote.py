"""The copy of a run in an object store: what is there, and how one object is put there without replacing another.

- An object is put only if it is absent. A store that does not honour that condition is asked before, too.
- An object that is there must have the bytes of the file: its size and sha256 are compared. The sha256 is an attribute
  of the object, or is computed from its bytes, since an ETag need not be a checksum.
- A store that was killed while it wrote an object in place leaves the beginning of it. That is completed, if the store
  is one that overwrites; one that honours the condition writes no object in part.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Literal

from esper_recorder.uploading.plan import File, Rule
from esper_schemas.errors import RunExistsError
from esper_schemas.run.records import MAX_JSON_BYTES
from esper_schemas.run.store import StoreUrl, open_store, store_errors

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore

ANSWER_SECS, REQUEST_SECS = 60, 600
"""A request ends after so many seconds without an answer, and in all: a segment may take long on a slow line."""

_SHA256 = "sha256"
_CONTENT_TYPES = {".json": "application/json", ".parquet": "application/vnd.apache.parquet"}
_MARKED = b'"ended"'  # what comes before this key is the same in every version of the record of an attempt


class RemoteRun:
    """The objects below the URL of a run.

    Every method raises StoreError if the store does not answer, or refuses.

    Attributes:
        url: the URL of the run.
        sizes: name → size in bytes, as they were listed, and put since then.
    """

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self.sizes: dict[str, int] = {}
        self._store: ObjectStore = open_store(url, answer_secs=ANSWER_SECS, request_secs=REQUEST_SECS)

    def list(self) -> None:
        """List what is there."""
        import obstore

        sizes: dict[str, int] = {}
        prefix = f"{self.url.key}/"
        with store_errors(str(self.url)):
            for some in obstore.list(self._store, prefix, chunk_size=1000):
                sizes |= {entry["path"].removeprefix(prefix): entry["size"] for entry in some}
        self.sizes = sizes

    def put(self, file: File) -> bool:
        """Put the object of a file, unless it is there already.

        Returns:
            Whether it was put.

        Raises:
            RunExistsError: another object has its name; it is left as it is.
            RunDamagedError, OSError: as the file's `load`.
        """
        if file.rule is Rule.ONCE:
            return self._put_once(file)
        return self._put_record(file)

    def has(self, file: File) -> bool:
        """Whether the object of a file is there, with the same bytes."""
        found = self._get(file.name, head=True)
        return found is not None and self._is_same(file, found)

    def _put_once(self, file: File) -> bool:
        found = self._get(file.name, head=True)
        if found is not None and self._is_same(file, found):
            self.sizes[file.name] = file.size
            return False
        data = file.load()
        if data is None:
            return False
        if found is not None:
            theirs = self._at_most(file)
            if theirs == data:  # another upload has finished it since
                self.sizes[file.name] = file.size
                return False
            if theirs is None or not data.startswith(theirs):
                raise self._taken(file.name)
        if not self._create(file.name, data, file.sha256):
            if self.has(file):  # another upload has put it, or the answer to a request of ours was lost
                return False
            raise self._taken(file.name)
        return True

    def _put_record(self, file: File) -> bool:
        data = file.load()
        assert data is not None  # a record was read for the plan
        found = self._get(file.name)
        if found is None:
            if self._create(file.name, data, file.sha256):
                return True
            found = self._get(file.name)
        if found is not None and found.meta["size"] > MAX_JSON_BYTES:
            raise self._taken(file.name)
        theirs = b"" if found is None else self._content(file.name, found)
        if theirs == data:
            self.sizes[file.name] = len(data)
            return False
        state = _state_of(theirs, data)
        if state == "another" or (state == "ended" and file.rule is Rule.ENDED):
            raise self._taken(file.name)
        if state in ("begun", "ended") and file.rule is Rule.BEGUN:
            return False
        self._request_put(file.name, data, file.sha256, "overwrite")
        return True

    # ------------------------------------------------------------------ requests

    def _get(self, name: str, *, head: bool = False) -> GetResult | None:
        """An object, or with `head` only what is known of it; None if there is none."""
        import obstore

        try:
            with store_errors(str(self.url / name)):
                return obstore.get(self._store, (self.url / name).key, options={"head": head})
        except FileNotFoundError:
            return None

    def _content(self, name: str, found: GetResult) -> bytes:
        with store_errors(str(self.url / name)):
            return found.bytes().to_bytes()

    def _at_most(self, file: File) -> bytes | None:
        """The bytes of the object of a file; None if they are more than the file has."""
        found = self._get(file.name)
        if found is None:
            return b""
        return None if found.meta["size"] > file.size else self._content(file.name, found)

    def _is_same(self, file: File, found: GetResult) -> bool:
        if found.meta["size"] != file.size:
            return False
        said = found.attributes.get(_SHA256)
        return (said or self._sha256(file.name)) == file.sha256

    def _sha256(self, name: str) -> str | None:
        """The sha256 of the bytes of an object that does not say it."""
        found = self._get(name)
        if found is None:
            return None
        made = hashlib.sha256()
        with store_errors(str(self.url / name)):
            for part in found.stream():
                made.update(part)
        return made.hexdigest()

    def _create(self, name: str, data: bytes, sha256: str) -> bool:
        """Put an object if it is absent; False if it is not."""
        try:
            self._request_put(name, data, sha256, "create")
        except FileExistsError:
            return False
        return True

    def _request_put(self, name: str, data: bytes, sha256: str, mode: Literal["create", "overwrite"]) -> None:
        import obstore

        attributes = {_SHA256: sha256}
        if content_type := _CONTENT_TYPES.get(name[name.rindex(".") :]):
            attributes["Content-Type"] = content_type
        where = self.url / name
        with store_errors(str(where), creates=mode == "create"):
            obstore.put(self._store, where.key, data, mode=mode, attributes=attributes, use_multipart=False)
        self.sizes[name] = len(data)

    def _taken(self, name: str) -> RunExistsError:
        return RunExistsError(
            f"{self.url / name}: an object with other bytes is there already, and is left as it is; upload to another"
            " URL, or remove what is there (a run is uploaded again with the same --redact)"
        )


def _state_of(theirs: bytes, ours: bytes) -> str:
    """What the record of an attempt that is in the store is: `begun`, `ended`, `cut` off, or of `another` attempt."""
    mine = json.loads(ours)
    same = ours[: ours.index(_MARKED)]
    try:
        record = json.loads(theirs)
    except ValueError:
        return "cut" if same.startswith(theirs[: len(same)]) else "another"
    if not isinstance(record, dict) or any(record.get(key) != mine[key] for key in ("attempt", "started", "first_seq")):
        return "another"
    return "begun" if record.get("status") is None else "ended"
