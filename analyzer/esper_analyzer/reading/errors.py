"""What can be wrong with one run while it is read, whatever raises it: no error of one run hides another run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa

from esper_schemas import errors
from esper_schemas.errors import EsperError, RunDamagedError

DATA_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException)
"""What polars and pyarrow raise where rows cannot be decoded; PanicException is no Exception but a BaseException."""

DAMAGE = (RunDamagedError, *DATA_ERRORS)
"""What means that a run is damaged."""

RUN_ERRORS = (EsperError, OSError, *DATA_ERRORS)


def describe_error(error: BaseException) -> str:
    """The error as one line, which is not cleaned yet."""
    return errors.describe_error(error, DATA_ERRORS)


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Keep what polars writes about its own panics off standard error: the exception says it all.

    For the whole process, so nothing else may be said inside.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
