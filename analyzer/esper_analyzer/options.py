"""What the options of the commands offer. It imports nothing heavy, so that `--help` does not wait for polars."""

from __future__ import annotations

from typing import Literal

FailOn = Literal["unknown", "warning", "critical"]
"""The level that fails a check; `unknown` fails everything that is not healthy."""

CheckForm = Literal["text", "json", "junit", "github"]
"""The formats of a check."""

By = Literal["updates", "steps", "time"]
"""What runs are aligned by."""

EngineName = Literal["local", "ray"]
"""What judges a fleet of runs: processes of this machine, or a Ray cluster."""

FleetForm = Literal["text", "json", "csv", "parquet"]
"""The formats of a fleet."""

INTERVAL_SECS = 0.25
"""Seconds between two looks at a run that is followed."""
