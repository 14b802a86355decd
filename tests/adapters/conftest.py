from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _checked_distributions() -> Iterator[None]:
    """rsl_rl turns the checks of all distributions off, for the whole process; other tests need them."""
    yield
    torch.distributions.Distribution.set_default_validate_args(True)
