"""Collects the names and values of a row from a payload, keywords and extras."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from esper_schemas.errors import PayloadError
from esper_schemas.metric.payload import METRICS, PPOUpdatePayload

_PAYLOAD_NAMES = tuple(METRICS)
_payload_values = attrgetter(*_PAYLOAD_NAMES)


def parts_of(metrics: dict[str, Any], payload: object, extras: object) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return the names and values of a row. A keyword counts only if the payload has None for it.

    Raises:
        PayloadError: `payload` is not a `PPOUpdatePayload`, or `extras` is not a mapping.
    """
    if payload is not None and not isinstance(payload, PPOUpdatePayload):
        raise PayloadError(f"expected a PPOUpdatePayload or keywords, found {type(payload).__name__}")
    names, values = tuple(metrics), tuple(metrics.values())
    if payload is not None:
        given = {name: value for name, value in metrics.items() if getattr(payload, name, None) is None}
        names, values = (*_PAYLOAD_NAMES, *given), (*_payload_values(payload), *given.values())
        names, values = _with_extras(names, values, payload.extras)
    return _with_extras(names, values, extras)


def _with_extras(
    names: tuple[str, ...], values: tuple[Any, ...], extras: object
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    if extras is None:
        return names, values
    if not isinstance(extras, Mapping):
        raise PayloadError(f"extras must be a mapping of names to numbers, found {type(extras).__name__}")
    copied = dict(extras)  # copies a dict in one step, even while another thread fills it
    return names + tuple(copied), values + tuple(copied.values())
