"""The errors that reading one run can raise, so that a list of runs can report one and continue with the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa

from esper_schemas import errors
from esper_schemas.errors import EsperError, RunDamagedError

DATA_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException)
"""What polars and pyarrow raise if rows cannot be decoded; PanicException is a BaseException, not an Exception."""

DAMAGE = (RunDamagedError, *DATA_ERRORS)
"""Errors which mean that a run is damaged."""

RUN_ERRORS = (EsperError, OSError, *DATA_ERRORS)


def describe_error(error: BaseException) -> str:
    """Describe the error in one line, which still has to be cleaned for printing."""
    return errors.describe_error(error, DATA_ERRORS)


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Keep polars' messages about its own panics off standard error; the exception has the same information.

    This redirects standard error for the whole process, so do not print to it inside the block.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
