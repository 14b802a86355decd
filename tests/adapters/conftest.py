from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks as small as these are fastest with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _checked_distributions() -> Iterator[None]:
    """rsl_rl turns the checks of all distributions off, for the whole process; other tests need them."""
    yield
    torch.distributions.Distribution.set_default_validate_args(True)
