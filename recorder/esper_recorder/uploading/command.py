"""What `esper-rec upload` does, apart from parsing its options: uploads each run, and says what became of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esper_recorder.uploading.redaction import Redaction
from esper_recorder.uploading.upload import Uploaded, Uploader
from esper_schemas.console import say
from esper_schemas.errors import EsperError, UsageError, describe_error
from esper_schemas.exit_codes import ExitCode
from esper_schemas.run.directory import RunDirectory
from esper_schemas.run.finding import resolve_run
from esper_schemas.run.store import StoreUrl

_NICE = 10
"""A process that uploads beside a trainer leaves the processor to it."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The upload of one run, and how it ended.

    Attributes:
        run: the run, as a person named it.
        uploaded: what is there now; None if the upload failed.
        error: why it failed.
    """

    run: RunDirectory
    uploaded: Uploaded | None
    error: EsperError | OSError | None = None

    def to_dict(self) -> dict[str, Any]:
        """One entry of the document `esper-upload/1`."""
        made = self.uploaded
        return {
            "path": str(self.run.path),
            "run_id": made.run_id if made else None,
            "url": str(made.url) if made and made.has_rows else None,
            "objects": made.objects if made else None,
            "bytes": made.bytes if made else None,
            "new_objects": made.new_objects if made else None,
            "new_bytes": made.new_bytes if made else None,
            "complete": bool(made and made.is_over and made.has_rows),
            "error": describe_error(self.error) if self.error else None,
        }

    def describe(self) -> str:
        """One line about a run that was uploaded."""
        made = self.uploaded
        assert made is not None
        if not made.has_rows:
            return f"{self.run.path}: no row has been recorded yet, so nothing is uploaded"
        new = f"uploaded {_amount(made.new_objects, made.new_bytes)}" if made.new_objects else "nothing to upload"
        there = f"{made.url} has {_amount(made.objects, made.bytes)}"
        state = "the whole run" if made.is_over else "the run so far; --follow goes on while it is recorded"
        return f"{self.run.path}: {new}; {there}, {state}"


def upload_runs(
    names: Sequence[str], url: str, root: Path, redact: Sequence[str], *, rank: int | None, follow: bool
) -> tuple[list[Upload], ExitCode]:
    """Upload runs below a URL, one after another; one that fails does not keep the next from being uploaded.

    Args:
        names: the runs, as paths or as names under `root`.
        url: where they are put, each under its run id.
        root: the folder of runs.
        redact: keys that are left out.
        rank: the only rank to upload; None uploads all.
        follow: whether to go on while the run is recorded; for one run.

    Returns:
        What became of each run, and the exit code.

    Raises:
        UsageError: an argument is wrong; nothing was uploaded.
        NotARunError, RunUnreadableError: there is no such run; nothing was uploaded.
    """
    if not names:
        raise UsageError("name the runs to upload before the URL")
    where, redaction = StoreUrl.parse(url), Redaction.parse(redact)
    runs = list({run.path.resolve(): run for run in (_find_run(name, root) for name in names)}.values())
    if follow and len(runs) > 1:
        raise UsageError(f"--follow follows one run, found {len(runs)}; follow each with a command of its own")
    _check_names(runs)
    _check_keys(runs, redaction)
    if follow:
        os.nice(_NICE)
    uploads = []
    code = ExitCode.FINE
    for run in runs:
        try:
            uploader = Uploader(
                run, where, redaction, rank=rank, follow=follow, note=lambda line: say(f"esper-rec: {line}")
            )
            uploads.append(Upload(run, uploader.upload()))
        except (EsperError, OSError) as error:
            say(f"esper-rec: {describe_error(error)}")
            uploads.append(Upload(run, None, error))
            code = max(code, ExitCode.of_error(error))
    return uploads, code


def _find_run(name: str, root: Path) -> RunDirectory:
    run = resolve_run(name, root)
    if not isinstance(run, RunDirectory):
        raise UsageError(f"expected a run on this machine, found {run.path}; upload it from where it was recorded")
    return run


def _check_names(runs: Sequence[RunDirectory]) -> None:
    """Check that no two runs would be put in the same place.

    Raises:
        UsageError: two different folders have a run of the same id.
    """
    seen: dict[str, RunDirectory] = {}
    for run in runs:
        other = seen.setdefault(run.header().run_id, run)
        if other is not run:
            raise UsageError(f"{other.path} and {run.path} have the same run id; upload one of them to another URL")


def _check_keys(runs: Sequence[RunDirectory], redaction: Redaction) -> None:
    """Check that each key that is left out is in one of the runs: a typing error would upload what it should not.

    Raises:
        UsageError: no run has such a key.
    """
    configs = [run.header().config for run in runs]
    absent = [redaction.absent_from(config) for config in configs]
    for key in redaction.keys:
        if all(key in names for names in absent):
            there = ", ".join(sorted({f"config.{name}" for config in configs for name in config})) or "none"
            raise UsageError(
                f"--redact {key}: no run has this key, so nothing is uploaded; keys of the config: {there}"
            )


def _amount(objects: int, size: int) -> str:
    noun = "object" if objects == 1 else "objects"
    return f"{objects:,} {noun} ({size:,} bytes)"
