"""What `import esper_recorder` brings along: a training script has to wait for it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "polars", "pyarrow.parquet", "esper_analyzer", "importlib.metadata", "difflib", "click", "rich"}
HEAVY |= {"esper_schemas.segment.follow", "esper_schemas.examining"}  # only readers need them


def test_importing_the_recorder_loads_nothing_that_it_does_not_need_yet() -> None:
    """Parquet takes as long as the whole package, and is loaded when a run is opened."""
    script = "import sys, esper_recorder; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "pyarrow" in done.stdout.split()
    assert HEAVY & set(done.stdout.split()) == set()
