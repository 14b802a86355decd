"""The only module that opens the files of a run: it opens them relative to the descriptor of the run's folder.

A run folder may come from somebody else, and somebody else may change it at any time. So this module, and no other:

- follows links only in the path that a person gave, never inside a run. It never reads or writes through a link;
- opens only regular files, never a device or anything else that can block;
- checks the size of a file before it reads it;
- creates a file exclusively, under a name that is free. It renames or removes existing files, and never opens one
  for writing;
- keeps a folder open, so it stays the same folder whatever happens to its name.

Names are relative to the folder, with `/` between folders: `rank-0000/seals/00000000.json`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Self

from esper_schemas.errors import RunDamagedError
from esper_schemas.run.fingerprint import fingerprint_of
from esper_schemas.run.storage import Fingerprint

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_PLAIN = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMLINK})
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file"),
)

Identity = tuple[int, int]
"""Device and inode, which identify a file or folder whatever its name."""


class Folder:
    """An open folder, held by its descriptor until it is closed; a `Storage` on a local disk.

    Attributes:
        path: the path that it was opened with, for messages only; it may have been renamed since.
        descriptor: the file descriptor of the folder.
    """

    def __init__(self, descriptor: int, path: Path | str) -> None:
        self.descriptor = descriptor
        self._path = str(path)  # converted to a Path only on demand: thousands of folders are opened
        self._held: dict[str, Folder] = {}

    @classmethod
    def at(cls, path: Path) -> Self:
        """Open the folder that a person named; links in its path are followed.

        Raises:
            FileNotFoundError, NotADirectoryError, OSError: it does not exist, is not a folder, or cannot be opened.
        """
        return cls(os.open(path, _FOLDER_FLAGS), path)

    def __reduce__(self) -> tuple[Callable[[Path], Folder], tuple[Path]]:
        """Another process opens what is at the same path then."""
        return Folder.at, (self.path,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder; calling it again does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        while self._held:
            self._held.popitem()[1].close()

    def hold(self, name: str) -> None:
        """Keep a folder inside it open: from now on the name means this folder, whatever happens to the name on disk.

        Raises:
            RunDamagedError, OSError: as in `folder`.
        """
        self._held[name] = self.folder(name)

    # ------------------------------------------------------------------ looking

    @property
    def path(self) -> Path:
        """The path that it was opened with."""
        return Path(self._path)

    def where(self, name: str = "") -> str:
        """The path of a file, for messages."""
        return f"{self._path}/{name}" if name else self._path

    @property
    def identity(self) -> Identity:
        """Device and inode of the folder."""
        found = os.fstat(self.descriptor)
        return found.st_dev, found.st_ino

    def folder(self, name: str) -> Folder:
        """Open a folder inside it.

        Raises:
            FileNotFoundError: it does not exist.
            RunDamagedError: it is a link, or not a folder.
            OSError: it cannot be opened.
        """
        parts = _parts(name)
        first = self._held.get(parts[0]) if parts else None
        start = self if first is None else first
        descriptor, path = start.descriptor, start._path
        is_own = False
        for part in parts if first is None else parts[1:]:
            path = f"{path}/{part}"
            try:
                inner = os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                if error.errno in _NOT_PLAIN:
                    raise RunDamagedError(f"{path}: expected a folder, found {_kind(part, descriptor)}") from None
                raise _named(error, Path(path)) from None
            finally:
                if is_own:
                    os.close(descriptor)
            descriptor, is_own = inner, True
        return Folder(descriptor if is_own else os.dup(descriptor), path)

    def names(self, folder: str = "") -> list[str]:
        """Names in a folder, sorted; see `Storage`."""
        try:
            with self.folder(folder) as inner:
                return sorted(os.listdir(inner.descriptor))  # noqa: PTH208 (pathlib takes no descriptor)
        except FileNotFoundError:
            return []

    def is_folder(self, name: str) -> bool:
        """Whether a name is a folder; see `Storage`."""
        found = self.stat(name)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def exists(self, name: str) -> bool:
        """Whether anything has that name, including a link."""
        return self.stat(name) is not None

    def stat(self, name: str) -> os.stat_result | None:
        """Status of a file, folder or link; links are not followed. None if nothing has that name.

        Raises:
            RunDamagedError: a part of the path is not a folder.
            OSError: reading the status failed.
        """
        try:
            with self._parent(name) as (parent, last):
                return os.stat(last, dir_fd=parent.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _named(error, self.path / name) from None

    def identity_of(self, name: str) -> Identity | None:
        """Device and inode of a file or folder; None if nothing has that name."""
        found = self.stat(name)
        return None if found is None else (found.st_dev, found.st_ino)

    def size(self, name: str) -> int:
        """Size of a regular file in bytes; see `Storage`."""
        found = self.stat(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.where(name))
        if not stat.S_ISREG(found.st_mode):
            raise RunDamagedError(f"{self.where(name)}: expected a file, found {_kind_of(found.st_mode)}")
        return found.st_size

    def read_ahead(self, folders: Iterable[str]) -> None:
        """Do nothing: files of a disk are near."""

    def fingerprint(self) -> Fingerprint | None:
        """Return the state of everything in it; see `Storage`."""
        return fingerprint_of(self.descriptor)

    def open_descriptor(self, name: str) -> int:
        """Open a regular file for reading and return its descriptor; raises like `size`."""
        self.size(name)  # check first: merely opening a device can have an effect
        with self._parent(name) as (parent, last):
            try:
                descriptor = os.open(last, _READ_FLAGS, dir_fd=parent.descriptor)
            except OSError as error:
                if error.errno in _NOT_PLAIN:
                    raise RunDamagedError(f"{self.where(name)}: expected a file, found something else") from None
                raise _named(error, self.path / name) from None
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise RunDamagedError(f"{self.where(name)}: expected a file, found {_kind_of(mode)}")
        return descriptor

    def open(self, name: str) -> BinaryIO:
        """Open a regular file for reading; see `Storage`."""
        return os.fdopen(self.open_descriptor(name), "rb")

    def read(self, name: str, limit: int) -> bytes:
        """Read a whole regular file; see `Storage`."""
        descriptor = self.open_descriptor(name)
        try:
            return read_descriptor(descriptor, limit, self.where(name))
        finally:
            os.close(descriptor)

    # ------------------------------------------------------------------ changing

    def make_folder(self, name: str) -> bool:
        """Make a folder; its parents must exist. Returns False if it exists already.

        Raises:
            RunDamagedError: something else has that name.
            OSError: making it failed.
        """
        with self._parent(name) as (parent, last):
            try:
                os.mkdir(last, 0o777, dir_fd=parent.descriptor)
            except FileExistsError:
                parent.folder(last).close()
                return False
            except OSError as error:
                raise _named(error, self.path / name) from None
        return True

    def create(self, name: str, mode: int = 0o644) -> int:
        """Create a file; return a descriptor for appending to it and reading it.

        Raises:
            FileExistsError: something has that name.
            OSError: creating it failed.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._parent(name) as (parent, last):
            try:
                return os.open(last, flags, mode, dir_fd=parent.descriptor)
            except OSError as error:
                raise _named(error, self.path / name) from None

    def open_private(self, name: str) -> int:
        """Open a file that only its owner may open, for reading and writing; create it if it does not exist.

        Raises:
            RunDamagedError: it is not a regular file, or it has a second name (a hard link), perhaps outside the run.
            OSError: opening or creating it failed.
        """
        with self._parent(name) as (parent, last):
            while True:
                try:
                    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    return os.open(last, flags, 0o600, dir_fd=parent.descriptor)
                except FileExistsError:
                    pass
                except OSError as error:
                    raise _named(error, self.path / name) from None
                try:
                    self.size(name)  # check first: merely opening a device can have an effect
                    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    descriptor = os.open(last, flags, dir_fd=parent.descriptor)
                except FileNotFoundError:
                    continue  # it was removed in between
                except OSError as error:
                    if error.errno in _NOT_PLAIN:
                        raise RunDamagedError(f"{self.where(name)}: expected a file, found something else") from None
                    raise _named(error, self.path / name) from None
                break
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(descriptor)
            raise RunDamagedError(
                f"{self.where(name)}: expected a file with this one name, found {_kind_of(found.st_mode)}"
                f" with {found.st_nlink} names"
            )
        if found.st_mode & 0o077 and found.st_uid == os.geteuid():
            try:
                os.fchmod(descriptor, 0o600)
            except OSError as error:
                os.close(descriptor)
                raise _named(error, self.path / name) from None
        return descriptor

    def link(self, name: str, target: str) -> None:
        """Give a file a second name, `target`.

        Raises:
            FileExistsError: something has that name.
            OSError: linking failed.
        """
        with self._parent(name) as (parent, last), self._parent(target) as (into, new):
            try:
                os.link(last, new, src_dir_fd=parent.descriptor, dst_dir_fd=into.descriptor, follow_symlinks=False)
            except OSError as error:
                raise _named(error, self.path / name, self.path / target) from None

    def rename(self, name: str, target: str, into: Folder | None = None) -> None:
        """Rename a file or folder to `target`, in this folder or in `into`; an existing `target` is replaced."""
        with self._parent(name) as (parent, last), (into or self)._parent(target) as (folder, new):
            try:
                os.rename(last, new, src_dir_fd=parent.descriptor, dst_dir_fd=folder.descriptor)
            except OSError as error:
                raise _named(error, self.path / name, (into or self).path / target) from None

    def unlink(self, name: str, identity: Identity | None = None) -> None:
        """Remove a file, or a link but not its target. Does nothing if it does not exist or has another `identity`.

        Raises:
            OSError: removing it failed; it is a folder, for example.
        """
        if identity is not None and self.identity_of(name) != identity:
            return
        try:
            with self._parent(name) as (parent, last):
                os.unlink(last, dir_fd=parent.descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _named(error, self.path / name) from None

    def sync(self, folder: str = "") -> None:
        """Make the names in it, or in a folder inside it, survive a power loss."""
        with self._parent(f"{folder}/_" if folder else "_") as (inner, _):
            os.fsync(inner.descriptor)

    def _parent(self, name: str) -> _Parent:
        if not _parts(name):
            raise ValueError("a file must have a name")
        folder, _, last = name.rpartition("/")
        if not folder:
            return _Parent(self, last, is_own=False)
        if folder in self._held:
            return _Parent(self._held[folder], last, is_own=False)
        return _Parent(self.folder(folder), last, is_own=True)


class _Parent:
    """The folder that a name is in. If it was opened for this name, the end of the block closes it."""

    def __init__(self, folder: Folder, last: str, *, is_own: bool) -> None:
        self._folder, self._last, self._is_own = folder, last, is_own

    def __enter__(self) -> tuple[Folder, str]:
        return self._folder, self._last

    def __exit__(self, *_: object) -> None:
        if self._is_own:
            self._folder.close()


def read_descriptor(descriptor: int, limit: int, where: str, offset: int = 0) -> bytes:
    """Read an open file of at most `limit` bytes from `offset` to its end.

    Raises:
        RunDamagedError: the file is larger.
        OSError: reading failed.
    """
    size = os.fstat(descriptor).st_size
    if size > limit:
        raise RunDamagedError(f"{where}: expected at most {limit:,} bytes, found {size:,}")
    parts = []
    while offset < limit and (part := os.pread(descriptor, min(1 << 24, limit - offset), offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _parts(name: str) -> list[str]:
    parts = name.split("/") if name else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"{name!a} is not a valid name inside a folder")
    return parts


def _kind_of(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def _kind(name: str, folder: int) -> str:
    try:
        return _kind_of(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return "something else"


def _named(error: OSError, path: Path, target: Path | None = None) -> OSError:
    """The same error with the whole paths, since the kernel knows only the last part of them."""
    if error.errno is None:  # not of the kernel: of a signal handler that ended the call
        return error
    if target is None:
        return type(error)(error.errno, error.strerror, str(path))
    return type(error)(error.errno, error.strerror, str(path), None, str(target))
