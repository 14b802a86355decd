"""The device that the GPU's tests run on: CUDA where there is any, else the CPU, which takes the same way."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from esper_recorder.writing.device_capture import DeviceCapture, keep_on_device


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """CUDA, or a CPU whose tensors are fetched as those of a GPU are."""
    if torch.cuda.is_available():
        return torch.device("cuda")

    def take(metrics: dict[str, Any]) -> dict[str, Any]:
        names = [name for name, value in metrics.items() if isinstance(value, torch.Tensor)]
        return {name: metrics.pop(name) for name in names}

    monkeypatch.setattr("esper_recorder.writing.unplanned.take_device_tensors", take)
    monkeypatch.setattr("esper_recorder.writing.unplanned.DeviceCapture", partial(DeviceCapture, pinned=False))
    monkeypatch.setattr("esper_recorder.writing.black_box.tensor_types", tuple)
    monkeypatch.setattr("esper_recorder.writing.black_box.take_device_tensors", take)
    monkeypatch.setattr("esper_recorder.writing.black_box.keep_on_device", partial(keep_on_device, on_cuda=False))
    return torch.device("cpu")
