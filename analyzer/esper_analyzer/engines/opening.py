"""Which engine is meant by what a person asks for."""

from __future__ import annotations

from esper_analyzer.engines.engine import Engine
from esper_analyzer.options import EngineName
from esper_schemas.errors import UsageError


def engine_of(name: EngineName = "local", address: str | None = None, workers: int | None = None) -> Engine:
    """Return the engine of a name, which is to be entered by `with`.

    Args:
        name: `local` or `ray`.
        address: the Ray cluster; see `RayEngine`.
        workers: how many may work at the same time; by default as many as there are cores.

    Raises:
        UsageError: an address is given to an engine that has none.
    """
    if name == "ray":
        from esper_analyzer.engines.on_ray import RayEngine

        return RayEngine(address, workers)
    if address is not None:
        raise UsageError(f"--address is that of a Ray cluster, and needs --engine ray; found {address!a}")
    from esper_analyzer.engines.local import LocalEngine

    return LocalEngine(workers)
