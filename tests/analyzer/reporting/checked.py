"""Runs that `esper-analyze check` is tried on, and the command in a process of its own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import HANG_SECS

COMMAND = [sys.executable, "-m", "esper_analyzer", "check"]
FINE = [
    {"update": update, "value_loss": 0.1, "return_std": 1.0, "explained_variance": 0.8, "kl_divergence": 0.01}
    for update in range(60)
]
BAD = [*FINE, *({"update": update, "value_loss": math.nan} for update in range(60, 70))]
WORN = [row for row in FINE if row["update"] not in (20, 21)]
KL_HIGH = [{**row, "kl_divergence": 0.5 if row["update"] > 40 else 0.01} for row in FINE]
"""Runs whose verdict is healthy, critical, a warning (missing updates); and healthy with a KL that is critical."""


def check_apart(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `esper-analyze check` in a process of its own, with its output in pipes."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=HANG_SECS,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
    )


def damage(path: Path) -> None:
    """Cut off the end of a sealed segment."""
    segment = path / "rank-0000" / "segments" / "00000000.parquet"
    segment.write_bytes(segment.read_bytes()[:-50])
