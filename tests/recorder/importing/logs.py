"""Logs of real trainers, unpacked where a test can change them, and the import command on them."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from pathlib import Path

from click.testing import CliRunner, Result

from esper_recorder.cli import main

DATA = Path(__file__).parent / "data"


def unpacked(name: str, folder: Path) -> Path:
    """Copy a log into a folder; a folder of logs as a folder, and what is packed unpacked."""
    source = DATA / name
    if source.is_dir():
        target = folder / name
        target.mkdir()
        for inner in sorted(source.iterdir()):
            (target / inner.name.removesuffix(".gz")).write_bytes(gzip.decompress(inner.read_bytes()))
        return target
    target = folder / name
    if (packed := DATA / f"{name}.tar.gz").exists():
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        return target
    if source.exists():
        shutil.copyfile(source, target)
    else:
        target.write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
    return target


def import_log(*arguments: object, root: Path) -> Result:
    """Run `esper-rec import` in this process."""
    return CliRunner().invoke(main, ["import", *map(str, arguments), "--out", str(root)])


def balance(done: Result) -> dict[str, str]:
    """The lines of the balance by their title; keys by name, with the column and the remark; notes joined."""
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        if line.startswith("  ") and " -> " in line:
            key, column = line.split(" -> ", 1)
            found[key.strip()] = column
        elif ": " in line:
            title, text = line.split(": ", 1)
            found[title] = f"{found[title]}; {text}" if title in found else text
    return found
