#!/usr/bin/env bash
# What the tests need beside Python: a real browser, a real terminal and real shells. Installs them where apt can.
set -euo pipefail

missing=()
for tool in chromium tmux zsh fish; do
    command -v "$tool" > /dev/null || missing+=("$tool")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v apt-get > /dev/null || { [ "$(id -u)" -ne 0 ] && ! command -v sudo > /dev/null; }; then
    echo "the tests need ${missing[*]}: install them with the package manager of this machine" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" fonts-dejavu-core
