"""What of a run stays on this machine when it is uploaded: the values of the keys that `--redact` names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from esper_schemas.errors import UsageError

HOST, COMMIT, CONFIG = "host", "commit", "config"


@dataclass(frozen=True, slots=True)
class Redaction:
    """The keys that are left out of an uploaded run. A run on the disk keeps them.

    Attributes:
        keys: sorted: `host`, `commit`, `config`, and `config.KEY`, where KEY has a dot for each level of the config.
    """

    keys: tuple[str, ...] = ()

    @classmethod
    def parse(cls, keys: Iterable[str]) -> Self:
        """Read the keys that a person named.

        Raises:
            UsageError: one of them is no key that can be left out.
        """
        wanted = sorted(set(keys))
        for key in wanted:
            if key not in (HOST, COMMIT, CONFIG) and not key.removeprefix(f"{CONFIG}."):
                raise UsageError(f"--redact takes host, commit, config or config.KEY, found {key!a}")
            if key not in (HOST, COMMIT, CONFIG) and not key.startswith(f"{CONFIG}."):
                raise UsageError(
                    f"--redact takes host, commit, config or config.KEY, found {key[:100]!a}; write config.{key[:100]}"
                    " for a key of the config"
                )
        return cls(tuple(wanted))

    def absent_from(self, config: Mapping[str, Any]) -> list[str]:
        """The keys that a run with this config does not have; each of them may be a typing error."""
        named = [key for key in self.keys if key.startswith(f"{CONFIG}.")]
        return [key for key in named if not _remove(json.loads(json.dumps(config, default=str)), _path(key))]

    def of_header(self, data: bytes) -> bytes:
        """The bytes of `run.json` without these keys. It is marked by its key `redacted`, which lists them."""
        if not self.keys:
            return data
        header = json.loads(data)
        for key in self.keys:
            if key == HOST:
                header["host"] = None
            elif key == COMMIT:
                header["git_commit"] = None
            elif key == CONFIG:
                header["config"] = {}
            elif isinstance(header.get("config"), dict):
                _remove(header["config"], _path(key))
        header["redacted"] = sorted({*header.get("redacted", []), *self.keys})
        return _to_bytes(header)

    def of_attempt(self, data: bytes) -> bytes:
        """The bytes of the record of an attempt without these keys."""
        record = json.loads(data)
        if HOST not in self.keys or record.get("host") is None:
            return data
        return _to_bytes(record | {"host": None})


def _path(key: str) -> str:
    return key.removeprefix(f"{CONFIG}.")


def _remove(config: dict[str, Any], path: str) -> bool:
    """Remove a key, given by its path with dots; a key may have dots in it itself. Returns whether it was there."""
    if path in config:
        del config[path]
        return True
    ends = (end for end, char in enumerate(path) if char == ".")
    inner = ((config.get(path[:end]), path[end + 1 :]) for end in ends)
    return any(isinstance(found, dict) and _remove(found, rest) for found, rest in inner)


def _to_bytes(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")
