"""The code that makes what is kept: other code may make something else of the same rows."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path

import numpy
import polars
import pyarrow

import esper_schemas
from esper_schemas.errors import EsperError
from esper_schemas.run.files import Folder

_ANALYZER = Path(__file__).parent.parent
_SCHEMAS = Path(esper_schemas.__file__).parent
_MAX_BYTES = 16 * 1024 * 1024


@cache
def code_digest() -> str | None:
    """Return a sha256 over the source of analyzer and schemas, and the versions of what they compute with.

    It takes some milliseconds, once in a process. None if the source cannot be read: then nothing can be kept.
    """
    versions = (sys.version, polars.__version__, pyarrow.__version__, numpy.__version__)
    digest = hashlib.sha256(repr(versions).encode())
    try:
        for package in (_ANALYZER, _SCHEMAS):
            with Folder.at(package) as folder:
                _add(digest, folder)
    except (OSError, EsperError):
        return None
    return digest.hexdigest()


def _add(digest: hashlib._Hash, folder: Folder) -> None:
    for name in folder.names():
        if name.endswith(".py"):
            source = folder.read(name, _MAX_BYTES)
            digest.update(f"{name} {len(source)}\n".encode() + source)
        elif not name.startswith(("_", ".")) and folder.is_folder(name):
            digest.update(f"{name}/\n".encode())
            with folder.folder(name) as inner:
                _add(digest, inner)
