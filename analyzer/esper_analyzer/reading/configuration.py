"""The hyper-parameters of a run by dotted name, however deeply its trainer nested them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 8
"""What is nested more deeply is not read."""


def flattened(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Return values by dotted name: `{"ppo": {"lr": 0.1}}` is `{"ppo.lr": 0.1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value and depth < MAX_DEPTH:
            flat |= flattened(value, f"{prefix}{key}.", depth + 1)
        else:
            flat[f"{prefix}{key}"] = "(nested too deeply)" if _is_deeper(value, MAX_DEPTH) else value
    return flat


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (Mapping, list)):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)
