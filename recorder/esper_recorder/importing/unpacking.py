"""Binary logs in gzip. Their readers need a file on the disk, so they are unpacked into a folder that is removed."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from esper_recorder.importing.text_file import TextFile
from esper_schemas.errors import UsageError

MOST_BYTES = 8 * 1024**3
"""So much is unpacked at most: a few megabytes of gzip may stand for a full disk."""

_CHUNK_BYTES = 1024 * 1024


class Unpacked:
    """Files as they are, but those in gzip unpacked. What was unpacked is there for as long as this object is.

    Of a file that is torn or damaged there is what comes before.

    Attributes:
        files: The files, in the same order; one that was unpacked has its name without the ending `.gz`.

    Raises:
        UsageError: a file has more than `MOST_BYTES`.
        OSError: one cannot be read, or there is no place for what it has.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files: list[Path] = []
        self._folder: Path | None = None
        for place, path in enumerate(files):
            self.files.append(self._unpacked(path, place))

    def _unpacked(self, path: Path, place: int) -> Path:
        with TextFile(path) as log:
            if not log.packing:
                return path
            if self._folder is None:
                self._folder = Path(mkdtemp(prefix="esper-unpacked-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            target = self._folder / str(place) / path.name.removesuffix(".gz")
            target.parent.mkdir()
            size = 0
            with target.open("xb") as file:
                while chunk := log.stream.read(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > MOST_BYTES:
                        raise UsageError(f"{path}: expected at most {MOST_BYTES:,} bytes in gzip; decompress it first")
                    file.write(chunk)
            shutil.copystat(path, target)
            return target
