"""A sealed file whose footer and page headers are whole, and whose values are none."""

from __future__ import annotations

from pathlib import Path

_ZSTD = bytes.fromhex("28b52ffd")  # begins every packed page


def garble(parquet: Path) -> bytes:
    """Make every packed page one that cannot be unpacked, in place; return the new content of the file."""
    content = parquet.read_bytes()
    assert content.count(_ZSTD) > 10
    content = content.replace(_ZSTD, b"\xff" * len(_ZSTD))
    parquet.write_bytes(content)
    return content
