"""The file `checkpoint.pt` of a run: its content, and how to read it without trusting it.

Reading never executes code from the file (`torch.load(weights_only=True)`). It also checks every byte of tensor data
against its checksum, which torch writes but does not check.
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
"""A larger file is not read; the largest networks that `esper-rec train` makes need less."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of training from which a run can be resumed.

    Attributes:
        run_uuid: UUID of the run that the checkpoint belongs to, as in the run's header.
        config: The configuration when the checkpoint was written.
        device: Type of the device trained on, `cpu` or `cuda`.
        state: `Trainer.state_dict()` between two updates; after reading, its tensors are on the CPU.
    """

    run_uuid: str
    config: PPOConfig
    device: str
    state: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
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
        """Read the checkpoint of a run and check everything but the shape of `state`.

        Raises:
            UsageError: there is no checkpoint, or it cannot be used; the message says why.
        """
        path = run.path / CHECKPOINT_NAME
        content = _load(run, path)
        kinds = {"version": int, "run_uuid": str, "config": dict, "device": str, "state": dict}
        if not isinstance(content, dict) or type(content.get("version")) is not int:
            raise unusable(path, "it is not a checkpoint of esper-rec train")
        if content["version"] > VERSION:
            raise unusable(path, f"it has version {content['version']}, newer than {VERSION}; upgrade Esper")
        if content.keys() != kinds.keys() or any(type(content[name]) is not kind for name, kind in kinds.items()):
            raise unusable(path, "it is not a checkpoint of esper-rec train")
        if content["device"] not in ("cpu", "cuda"):
            raise unusable(path, f"device must be cpu or cuda, found {_brief(content['device'])}")
        try:
            config = PPOConfig.from_dict(content["config"])
        except UsageError as error:
            raise unusable(path, str(error)) from None
        return cls(content["run_uuid"], config, content["device"], content["state"])


def unusable(path: Path, reason: str) -> UsageError:
    """Make the error for a checkpoint that cannot be resumed from."""
    return UsageError(
        f"cannot resume from {path}: {reason}; the recorded updates are not affected;"
        " to train again, choose another --run-id"
    )


def check_alike(found: object, expected: object, where: str) -> None:
    """Check that `found` has the keys, shapes and dtypes of `expected` throughout.

    Both are nested dicts of tensors and whole numbers; the tensors of `found` must be on the CPU.

    Raises:
        UsageError: they differ; the message says where.
    """
    if isinstance(expected, Tensor):
        wanted = f"{expected.dtype} {list(expected.shape)}"
        if not isinstance(found, Tensor) or found.device.type != "cpu" or found.layout is not torch.strided:
            raise UsageError(f"{where}: expected a tensor, {wanted}, found none")
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise UsageError(f"{where}: expected {wanted}, found {found.dtype} {list(found.shape)[:8]}")
    elif isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            raise UsageError(f"{where}: expected the keys {', '.join(expected) or '(none)'}, found others")
        for name, value in expected.items():
            check_alike(found[name], value, f"{where}.{name}")
    elif type(found) is not int or found < 0:
        raise UsageError(f"{where}: expected a whole number of 0 or more, found {_brief(found)}")


def _load(run: Folder, path: Path) -> object:
    """Load the file with torch; raise UsageError if it is missing, damaged, or contains code to execute."""
    try:
        data = run.read(CHECKPOINT_NAME, MAX_CHECKPOINT_BYTES)
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path} to resume from: the run was trained with --checkpoint-updates 0, or by another"
            " trainer, or killed before its first update; to train again, choose another --run-id"
        ) from None
    except RunDamagedError as error:
        raise unusable(path, str(error)) from None
    except OSError as error:
        raise unusable(path, f"it cannot be read ({error.strerror})") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            # torch stores without compression; a compressed entry could unpack to any size
            is_whole = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            is_whole = is_whole and archive.testzip() is None
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")] if is_whole else []
            is_plain = len(pickles) == 1 and has_plain_keys(archive.read(pickles[0]))
        content: object = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True) if is_plain else None
    except Exception as error:  # a damaged or malicious file can provoke any kind of error
        raise unusable(path, f"it is damaged ({type(error).__name__})") from None
    if not is_whole:
        raise unusable(path, "it is damaged (a checksum does not match)")
    return content


def _brief(value: object) -> str:
    """Describe a value in a few words: a malicious one may be so long that it never finishes printing."""
    if isinstance(value, str):
        return ascii(value[:40])
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() < 128):
        return str(value)
    return f"a {type(value).__name__}"
