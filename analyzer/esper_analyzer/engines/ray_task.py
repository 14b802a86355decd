"""What a task of a Ray cluster does. It imports nothing of ours before polars is told how many threads it has."""

from __future__ import annotations

import os
import pickle

from esper_analyzer.engines.engine import POLARS_THREADS, WorkersFailedError


def answer(sent: bytes, code: str | None) -> bytes:
    """Call a function with a batch of items.

    Args:
        sent: function and items, pickled.
        code: the digest of the code that sends them, and of what it computes with; None if it is not known.

    Returns:
        The results and the error that the function raised, either of which is None, pickled.
    """
    os.environ[POLARS_THREADS] = "1"
    from esper_analyzer.caching.code import code_digest

    results: list[object] | None = None
    error: Exception | None = None
    if code is not None and code != code_digest():
        error = WorkersFailedError(
            "the nodes of the Ray cluster have other code than this machine, or other versions of Python, polars,"
            " pyarrow or NumPy; install the same on all of them"
        )
    else:
        function, items = pickle.loads(sent)
        try:
            results = function(items)
        except Exception as raised:
            error = raised
    return pickle.dumps((results, error))
