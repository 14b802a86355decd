#!/usr/bin/env bash
# Everything that only a GPU can answer, on a bare machine, in under eight minutes: tests, then measurements, one table.
#
#     bash tests/gpu/run.sh [TABLE]     the table also goes to the file TABLE (default: gpu.md)
#
# Needs Python ($PYTHON, default python3) with PyTorch, NumPy, pyarrow, click, pytest, hypothesis, tensorboard, onnx and
# onnxscript, no network, and the few wheels of wheels.txt in .whl/ unless they are installed. Without a GPU it says so
# and runs the same steps, short, on the CPU.
set -euo pipefail
project=$(cd "$(dirname "$0")/../.." && pwd)
table=$(realpath -m "${1:-gpu.md}")
python=${PYTHON:-python3}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

if compgen -G "$project/.whl/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
        --find-links "$project/.whl" --target "$place/site" --requirement "$project/tests/gpu/wheels.txt"
fi
export PYTHONPATH="$project:$project/schemas:$project/recorder:$project/analyzer:$place/site" PYTHONUNBUFFERED=1
cd "$place" # nothing is written into the checkout
"$python" "$project/tests/gpu/measure.py" "$table"
