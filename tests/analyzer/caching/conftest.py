"""A cache folder of its own for each test, whether or not the other tests use stored numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper_analyzer.caching.folder import CACHE_DIR


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, stored_numbers: None) -> Path:
    """The cache folder of this test, which does not exist yet."""
    place = tmp_path_factory.mktemp("user") / "made" / "esper"
    monkeypatch.setenv(CACHE_DIR, str(place))
    return place
