"""Converts values to strict JSON: NaN and infinities become strings, so that the document is valid and complete."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def strict(value: Any) -> Any:
    """Convert a value to strict JSON: floats that are not finite become strings, times become ISO 8601."""
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
