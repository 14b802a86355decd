#!/usr/bin/env bash
# Installs the object stores of the tests, moto, s3rver and azurite, each into a folder of its own in the folder $1.
# PYTHON and NPM name the programs to install with. A folder that is up to date is left as it is.
set -euo pipefail
began=$SECONDS
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
stores="$(cd "$1" && pwd)"

if ! cmp -s "$here/moto.txt" "$stores/moto/moto.txt"; then
    rm -rf "$stores/moto"
    "$PYTHON" -m venv "$stores/moto"
    "$stores/moto/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/moto.txt"
    cp "$here/moto.txt" "$stores/moto/moto.txt"
fi
for name in s3rver azurite; do
    if ! cmp -s "$here/$name.json" "$stores/$name/.ready"; then
        mkdir -p "$stores/$name"
        cp "$here/$name.json" "$stores/$name/package.json"
        (cd "$stores/$name" && "$NPM" install --silent --no-package-lock --no-audit --no-fund --ignore-scripts)
        cp "$here/$name.json" "$stores/$name/.ready"
    fi
done
echo "the object stores of the tests are in $1 ($((SECONDS - began)) s)"
