"""The code that makes what is kept: other code may make something else of the same rows."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from functools import cache
from pathlib import Path

import numpy
import polars
import pyarrow

import esper_schemas

_ANALYZER = Path(__file__).parent.parent
_SCHEMAS = Path(esper_schemas.__file__).parent


@cache
def code_digest() -> str | None:
    """Return a sha256 over the source of analyzer and schemas, and the versions of what they compute with.

    It takes some milliseconds, once in a process. None if the source cannot be read: then nothing can be kept.
    """
    versions = (sys.version, polars.__version__, pyarrow.__version__, numpy.__version__)
    digest = hashlib.sha256(repr(versions).encode())
    try:
        for package in (_ANALYZER, _SCHEMAS):
            _add(digest, package)
    except OSError:
        return None
    return digest.hexdigest()


def _add(digest: hashlib._Hash, folder: str | Path) -> None:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.endswith(".py"):
            with io.FileIO(entry.path) as file:  # in less time than a `Path` takes, of hundreds of files
                source = file.readall()
            digest.update(f"{entry.name} {len(source)}\n".encode() + source)
        elif not entry.name.startswith(("_", ".")) and entry.is_dir():
            digest.update(f"{entry.name}/\n".encode())
            _add(digest, entry.path)
