"""Strict JSON: what JSON has no number for becomes a string, so that the document is valid and hides nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def strict(value: Any) -> Any:
    """A value that strict JSON can hold: floats that are not finite become strings, times ISO 8601."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value
