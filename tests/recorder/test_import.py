"""What `import esper_recorder` brings along: a training script has to wait for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from esper_schemas import RunDirectory

HEAVY = {"torch", "polars", "pyarrow.parquet", "esper_analyzer", "importlib.metadata", "difflib", "click", "rich"}
HEAVY |= {"esper_schemas.segment.follow", "esper_schemas.examining"}  # only readers need them


def test_importing_the_recorder_loads_nothing_that_it_does_not_need_yet() -> None:
    """Parquet takes as long as the whole package, and is loaded when a run is opened."""
    script = "import sys, esper_recorder; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "pyarrow" in done.stdout.split()
    assert HEAVY & set(done.stdout.split()) == set()


RECORDS_WITHOUT_IMPORTS = """
import sys
from esper_recorder import Recorder

class NothingMore:
    def find_spec(self, name, *_):
        raise ImportError(f"{name} is imported while recording")

recorder = Recorder.open(sys.argv[1], run_id="r", segment_rows=8)
sys.meta_path.insert(0, NothingMore())
sys.path_importer_cache.clear()
for update in range(30):
    recorder.minibatch(value_loss=float("inf") if update == 20 else 0.1)
    recorder.record(update=update, policy_loss=0.1, value_loss=0.2, entropi=1.0, mine=2)
assert recorder.dump_black_box("a look")
recorder.record(update="30", policy_loss=object(), value_loss=0.2)
recorder.close()
print(recorder.dropped_rows)
"""


def test_recording_imports_nothing_more_once_a_run_is_open(tmp_path: Path) -> None:
    """A process may have used up its descriptors by then, or have lost the right to read its libraries."""
    command = [sys.executable, "-c", RECORDS_WITHOUT_IMPORTS, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "imported while recording" not in done.stderr
    assert done.stdout == "1\n"
    assert "did you mean 'entropy'?" in done.stderr
    rank = RunDirectory(tmp_path / "r").rank(0)
    assert len(list(rank.path.glob("segments/*.parquet"))) == 4
    assert len(list(rank.path.glob("blackbox/*.parquet"))) == 2
