#!/usr/bin/env bash
# Builds the wheel, installs it into a new virtual environment outside the checkout, and runs the commands there.
set -euo pipefail
python=${1:-python3}
project=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$python" -m venv "$place/venv"
pip="$place/venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip wheel --no-deps --wheel-dir "$place/dist" "$project"
wheel=$(ls "$place"/dist/*.whl)
$pip install --no-compile --constraint "$project/constraints.txt" "$wheel[train]" # most of it is never imported here

cd "$place" # nothing of the checkout is on the path here
export PATH="$place/venv/bin:$PATH"
esper-rec train --updates 3 --run-id from-the-wheel
esper-analyze report --run from-the-wheel --format json | python -c 'import json, sys; assert json.load(sys.stdin)["updates"]["rows"] == 3'
esper-analyze report --run from-the-wheel --format html -o report.html
grep -q uPlot report.html # the page's own files are in the wheel
esper-analyze tail --once --run from-the-wheel > frame.txt
test -s frame.txt
python -c "
import esper_recorder, esper_schemas, esper_analyzer, pathlib, sys
for module in (esper_recorder, esper_schemas, esper_analyzer):
    path = pathlib.Path(module.__file__)
    assert path.is_relative_to(sys.prefix), path
    assert (path.parent / 'py.typed').exists(), path
"
python -c "
from pathlib import Path
from esper_schemas import RunDirectory
from esper_schemas.examining.run import verify_run
from esper_schemas.testing import bases, damages, description, golden
assert len(golden.NAMES) == 13, golden.NAMES
for name in golden.NAMES: # runs, rows and what is expected are in the wheel
    found = verify_run(RunDirectory(golden.copy_run(name, Path('golden'))))
    assert found.rows == golden.rows(name).num_rows and golden.expected(name).attempts, name
assert damages.DAMAGES[0].copy_to(Path('damaged'), bases.write_bases(Path('bases'))).exists()
assert description.load()['format'] == 1
"
echo "the wheel works outside the checkout: $(basename "$wheel")"
