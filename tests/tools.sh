#!/usr/bin/env bash
# What the tests need beside Python: a real browser, a real terminal and real shells, or the TOOLs that are named.
# Installs them where apt can.
set -euo pipefail

[ $# -gt 0 ] || set -- chromium tmux zsh fish
missing=() packages=()
for tool in "$@"; do
    command -v "$tool" > /dev/null && continue
    missing+=("$tool")
    case $tool in
        java) packages+=(default-jre-headless) ;;
        chromium) packages+=(chromium fonts-dejavu-core) ;;
        *) packages+=("$tool") ;;
    esac
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
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}"
