"""The one folder that a server reads, on a disk or in an object store: its runs by name, and nothing outside it."""

from __future__ import annotations

import stat

from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.run import Run
from esper_analyzer.serving.bounds import cleaned
from esper_schemas.errors import NotARunError, UsageError
from esper_schemas.run.directory import RunDirectory, StoredRun, open_place
from esper_schemas.run.files import Folder
from esper_schemas.run.names import HEADER_NAME
from esper_schemas.run.storage import Storage
from esper_schemas.run.store import Place, StoreUrl


class RunsFolder:
    """A folder of runs, which are named by their paths below it. No link below it is followed.

    Args:
        root: the folder, as a person gave it; links in this path are followed. It may be in an object store.
        settings: thresholds and rules to judge by.

    Raises:
        NotARunError: there is no such folder, or it cannot be opened.
        StoreError: the object store does not answer, or refuses.
        UsageError: it is a run itself.
    """

    def __init__(self, root: Place, settings: Settings = DEFAULT_SETTINGS) -> None:
        self.root = root
        self.settings = settings
        with self._open() as folder:
            if folder.exists(HEADER_NAME):
                raise UsageError(f"{root} is a run; pass the folder that it lies in with --root")

    def run(self, name: str) -> Run:
        """Open a run by its name as an answer has it, such as `my-run` or `sweep/lr-1`.

        Raises:
            UsageError: the name leaves the folder, or passes through a link.
            NotARunError, RunUnreadableError, RunDamagedError, FormatVersionError: as `open_run`.
        """
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise UsageError(
                f"a run is named by its path below {self.root}, as the tool runs names it, found {name!a};"
                " absolute paths and .. are refused"
            )
        place = ""
        with self._open() as root:
            for part in parts:
                place = self._step(root, place, part, name)
        if isinstance(self.root, StoreUrl):
            return Run(StoredRun(self.root / place), self.settings)
        return Run(RunDirectory(self.root / place, self.root), self.settings)

    def _open(self) -> Storage:
        try:
            return open_place(self.root)
        except (FileNotFoundError, NotADirectoryError):
            raise NotARunError(f"{self.root} is not a folder; pass the folder of runs with --root") from None
        except OSError as error:
            raise NotARunError(f"cannot open {self.root} ({error.strerror}); pass another folder with --root") from None

    def _step(self, root: Storage, place: str, part: str, name: str) -> str:
        """Return the place of a file or folder inside a folder, by its name on the disk or in an answer."""
        names = root.names(place)
        alike = [part] if part in names else [one for one in names if cleaned(one) == part]
        inside = f"{place}/{alike[0]}" if place and alike else "".join(alike[:1])
        if len(alike) != 1 or not root.exists(inside):
            raise NotARunError(f"there is no run {name!a} below {self.root}; the tool runs lists those that there are")
        found = root.stat(inside) if isinstance(root, Folder) else None
        if found is not None and stat.S_ISLNK(found.st_mode):
            raise UsageError(
                f"{name!a} passes through a link, and no link below {self.root} is followed;"
                " start a server with --root for the folder that it leads to"
            )
        return inside
