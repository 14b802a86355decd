"""Pipes, sockets, devices and folders where a run has files: every command ends, and says so."""

from __future__ import annotations

import pytest
from tests.hostile.folders import SPECIAL
from tests.hostile.ground import Ground

pytestmark = pytest.mark.hostile


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_regular_file_is_a_fault(ground: Ground, name: str) -> None:
    """No command waits for what is no file, reads it without end, or goes on as if it were one."""
    SPECIAL[name].check(ground)
