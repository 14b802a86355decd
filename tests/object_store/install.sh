#!/usr/bin/env bash
# Installs the two object stores of the tests, moto and s3rver, each into a folder of its own in the folder $1.
# PYTHON and NPM name the programs to install with. A folder that is up to date is left as it is.
set -euo pipefail
began=$SECONDS
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1/s3rver"
stores="$(cd "$1" && pwd)"

if ! cmp -s "$here/moto.txt" "$stores/moto/moto.txt"; then
    rm -rf "$stores/moto"
    "$PYTHON" -m venv "$stores/moto"
    "$stores/moto/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/moto.txt"
    cp "$here/moto.txt" "$stores/moto/moto.txt"
fi
if ! cmp -s "$here/package.json" "$stores/s3rver/.ready"; then
    cp "$here/package.json" "$stores/s3rver/package.json"
    (cd "$stores/s3rver" && "$NPM" install --silent --no-package-lock --no-audit --no-fund --ignore-scripts)
    cp "$here/package.json" "$stores/s3rver/.ready"
fi
echo "the object stores of the tests are in $1 ($((SECONDS - began)) s)"
