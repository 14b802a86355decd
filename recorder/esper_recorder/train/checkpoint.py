"""The file `checkpoint.pt` of a run: what it holds, how it is read without trusting it.

Reading executes nothing that the file says (`torch.load(weights_only=True)`), and every byte of tensor data is
held against its checksum, which torch writes and does not check.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esper_recorder.train.config import PPOConfig
from esper_recorder.train.pickle_keys import has_plain_keys
from esper_schemas.errors import RunDamagedError, UsageError
from esper_schemas.run.files import Folder

CHECKPOINT_NAME = "checkpoint.pt"
VERSION = 1

MAX_CHECKPOINT_BYTES = 256 * 1024 * 1024
"""A larger file is not read: the largest networks that `esper-rec train` makes need less."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run can go on.

    Attributes:
        run_uuid: The run it belongs to, as in the run's header.
        config: In force when it was written.
        device: Type of the device trained on, `cpu` or `cuda`.
        state: `Trainer.state_dict()` between two updates; tensors on the CPU once it has been read.
    """

    run_uuid: str
    config: PPOConfig
    device: str
    state: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The whole file."""
        content = {
            "version": VERSION,
            "run_uuid": self.run_uuid,
            "config": asdict(self.config),
            "device": self.device,
            "state": dict(self.state),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    @classmethod
    def read(cls, run: Folder) -> Checkpoint:
        """The checkpoint of a run, checked in all but the shape of `state`.

        Raises:
            UsageError: there is none, or none that can be used; says which.
        """
        path = run.path / CHECKPOINT_NAME
        content = _load(run, path)
        kinds = {"version": int, "run_uuid": str, "config": dict, "device": str, "state": dict}
        if not isinstance(content, dict) or type(content.get("version")) is not int:
            raise unusable(path, "it is no checkpoint of esper-rec train")
        if content["version"] > VERSION:
            raise unusable(path, f"it has version {content['version']}, newer than {VERSION}; upgrade Esper")
        if content.keys() != kinds.keys() or any(type(content[name]) is not kind for name, kind in kinds.items()):
            raise unusable(path, "it is no checkpoint of esper-rec train")
        if content["device"] not in ("cpu", "cuda"):
            raise unusable(path, f"there is no device {_brief(content['device'])}")
        try:
            config = PPOConfig.from_dict(content["config"])
        except UsageError as error:
            raise unusable(path, str(error)) from None
        return cls(content["run_uuid"], config, content["device"], content["state"])


def unusable(path: Path, reason: str) -> UsageError:
    """The error of a checkpoint that no run can go on from."""
    return UsageError(
        f"{path} cannot be resumed from: {reason}; what was recorded is not affected, train anew under another --run-id"
    )


def check_alike(found: object, expected: object, where: str) -> None:
    """Whether `found` has the names, shapes and dtypes of `expected` throughout.

    Both are nested dicts of tensors and whole numbers; tensors that are found must lie on the CPU.

    Raises:
        UsageError: it differs; the message says where.
    """
    if isinstance(expected, Tensor):
        wanted = f"{expected.dtype} {list(expected.shape)}"
        if not isinstance(found, Tensor) or found.device.type != "cpu" or found.layout is not torch.strided:
            raise UsageError(f"{where}: expected a tensor, {wanted}, found none")
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise UsageError(f"{where}: expected {wanted}, found {found.dtype} {list(found.shape)[:8]}")
    elif isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            raise UsageError(f"{where}: expected the names {', '.join(expected) or 'of nothing'}, found others")
        for name, value in expected.items():
            check_alike(found[name], value, f"{where}.{name}")
    elif type(found) is not int or found < 0:
        raise UsageError(f"{where}: expected a whole number from 0, found {_brief(found)}")


def _load(run: Folder, path: Path) -> object:
    """What torch finds in the file; UsageError if it is missing, damaged, or would have to be executed."""
    try:
        data = run.read(CHECKPOINT_NAME, MAX_CHECKPOINT_BYTES)
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path} to resume from: the run was trained with --checkpoint-updates 0, or by another"
            " trainer, or killed before its first update; train anew under another --run-id"
        ) from None
    except RunDamagedError as error:
        raise unusable(path, str(error)) from None
    except OSError as error:
        raise unusable(path, f"it cannot be read ({error.strerror})") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            # torch stores without compression; what is packed could unpack to any size
            is_whole = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            is_whole = is_whole and archive.testzip() is None
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")] if is_whole else []
            is_plain = len(pickles) == 1 and has_plain_keys(archive.read(pickles[0]))
        content: object = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True) if is_plain else None
    except Exception as error:  # of whatever kind a damaged file, or one made on purpose, provokes
        raise unusable(path, f"it is damaged ({type(error).__name__})") from None
    if not is_whole:
        raise unusable(path, "it is damaged (a checksum differs)")
    return content


def _brief(value: object) -> str:
    """A value in a few words: what is made on purpose may be of any length, and take for ever to print."""
    if isinstance(value, str):
        return ascii(value[:40])
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() < 128):
        return str(value)
    return f"a {type(value).__name__}"
