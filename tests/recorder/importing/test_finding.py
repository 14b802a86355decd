"""What a file or folder is taken for."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper_recorder.importing.finding import NothingYetError, find_source
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.point_log import Given
from esper_schemas.errors import UsageError


@pytest.mark.parametrize(
    ("content", "is_waited_for"),
    [(b"", True), (b"upd", True), (b"x" * 4095, True), (b"x" * 4096, False), (b"upd\n", False), (b"upd\0", False)],
    ids=["empty", "begun", "a long line begun", "too long a line", "a line", "binary"],
)
def test_a_log_that_is_only_begun_is_waited_for(content: bytes, is_waited_for: bool, tmp_path: Path) -> None:
    """While a log is followed, a beginning that may become anything is no error; read once, it is one."""
    log = tmp_path / "log"
    log.write_bytes(content)
    given = Given({}, {}, None)
    with pytest.raises(NothingYetError if is_waited_for else UsageError):
        find_source(log, given, Following(lambda: False))
    with pytest.raises(UsageError, match="expected"):
        find_source(log, given, READ_ONCE)
