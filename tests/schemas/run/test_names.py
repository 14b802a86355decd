from __future__ import annotations

from pathlib import Path

from esper_schemas import RunDirectory
from esper_schemas.run.names import WRITTEN_FOLDERS, segment_numbers


def test_segment_numbers_ignore_other_files(tmp_path: Path) -> None:
    """Only whole segment files count as segments."""
    rank = RunDirectory(tmp_path).rank(0)
    rank.path.mkdir()
    with rank.open() as folder:
        assert segment_numbers(folder) == set()
        for name in WRITTEN_FOLDERS:
            (rank.path / name).mkdir()
        rank.active_path(3).touch()
        rank.sealed_path(1).touch()
        for name in ("00000005.arrows.broken", "00000006.parquet.tmp", "x.arrows", "00000007.parquet"):
            (rank.active_folder / name).touch()
        assert segment_numbers(folder) == {1, 3}
