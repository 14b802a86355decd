"""What a power loss may leave: the file operations of a real recorder, written down, and a disk that forgets.

The model is harsher than any journalling file system. Data that was not synced may be there, lost, cut, zeroed, or
there in part; a name that was not synced may be there or not, each by itself; an fsync of a file keeps its data and
size only, an fsync of a folder the names in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.crash.intercept import Call, OpenFiles

SECTOR = 512
PAGE = 4096

Tree = dict[str, "bytes | Tree"]
"""A folder: name → content of a file, or a folder in it."""

DataLoss = Literal["kept", "lost", "cut", "zeroed", "first page lost"]
DATA_LOSSES: tuple[DataLoss, ...] = ("kept", "lost", "cut", "zeroed", "first page lost")


@dataclass(slots=True)
class Operation:
    """One file operation, or, as `mark`, what the recorder promised at this moment."""

    name: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.args[0]}"

    @property
    def is_change(self) -> bool:
        """Whether a crash after it may leave anything else than one before it."""
        return self.name != "open" or self.args[2] or self.args[3]


class Trace:
    """The operations under a folder, in order; a handler for `intercepted`.

    An open file is named by a number of its own instead of a descriptor, since those are used again.
    """

    def __init__(self, root: Path) -> None:
        self.operations: list[Operation] = []
        self._files = OpenFiles(root)
        self._root = root
        self._numbers: dict[int, int] = {}
        self._opened = 0

    def __call__(self, call: Call) -> Any:
        """Do the call, and write it down if it is about the folder."""
        if not self._files.inside(call):
            return call.do()
        name, args = call.name, call.args
        existed = name == "open" and os.path.exists(args[0])  # noqa: PTH110 — pathlib must not be entered here
        answer = call.do()
        self._files.note(call, answer)
        if name == "open":
            self._opened += 1
            self._numbers[answer] = self._opened
            truncated = bool(args[1] & os.O_TRUNC)
            self._add("open", self._opened, self._name(args[0]), not existed, truncated)
        elif name == "dup":
            self._numbers[answer] = self._numbers[args[0]]
        elif name in ("write", "pwrite", "ftruncate", "fsync"):
            number = self._numbers[args[0]]
            if name in ("write", "pwrite"):
                at = args[2] if name == "pwrite" else None
                self._add("write", number, bytes(args[1])[:answer], at)
            else:
                self._add(name, number, *args[1:])
        elif name != "close":
            paths = args[:2] if name in ("rename", "link") else args[:1]
            self._add(name, *(self._name(path) for path in paths))
        return answer

    def mark(self, kind: str, updates: list[int]) -> None:
        """Write down that the recorder has just promised something about these updates."""
        self._add("mark", kind, updates)

    def _add(self, name: str, *args: Any) -> None:
        self.operations.append(Operation(name, args))

    def _name(self, path: Path) -> tuple[str, ...]:
        return path.relative_to(self._root).parts


@dataclass(slots=True)
class _File:
    """Content at the last fsync, then after each change since."""

    versions: list[bytes] = field(default_factory=lambda: [b""])

    def after(self, loss: DataLoss) -> bytes:
        """What is left of it."""
        durable, current = self.versions[0], self.versions[-1]
        if loss == "lost" or current == durable:
            return durable
        if loss == "kept":
            return current
        if len(current) <= len(durable):
            return self.versions[len(self.versions) // 2]  # cut back: not yet, or half-way
        if loss == "cut":
            middle = (len(durable) + len(current)) // 2
            return current[: max(len(durable), middle - middle % SECTOR)]
        if loss == "zeroed":
            return current[: len(durable)] + bytes(len(current) - len(durable))
        page_end = min(len(current), (len(durable) // PAGE + 1) * PAGE)
        return current[: len(durable)] + bytes(page_end - len(durable)) + current[page_end:]


_Change = list[tuple[str, "_File | _Folder | None"]]


@dataclass(slots=True)
class _Folder:
    """Names at the last fsync, and the changes since; a change is all or nothing."""

    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    names: dict[str, _File | _Folder] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)

    def change(self, *entries: tuple[str, _File | _Folder | None]) -> None:
        """Set or remove names."""
        self.changes.append([*entries])
        _apply(self.names, [*entries])

    def sync(self) -> None:
        """All names are durable."""
        self.durable, self.changes = dict(self.names), []


def _apply(names: dict[str, _File | _Folder], change: _Change) -> None:
    for name, node in change:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


Choice = Callable[[_Folder, int], bool]
"""Whether a folder's unsynced change of this index reached the disk."""


class Disk:
    """A folder on a disk that keeps what was synced; operations are done to it one after the other."""

    def __init__(self) -> None:
        self.root = _Folder()
        self._open: dict[int, _File | _Folder] = {}

    def do(self, operation: Operation) -> None:
        """Do one operation of a trace."""
        args = operation.args
        match operation.name:
            case "open":
                self._do_open(*args)
            case "write":
                file = self._file(args[0])
                content = file.versions[-1]
                at = len(content) if args[2] is None else args[2]
                file.versions.append(content[:at] + args[1] + content[at + len(args[1]) :])
            case "ftruncate":
                file = self._file(args[0])
                file.versions.append(file.versions[-1][: args[1]])
            case "fsync":
                node = self._open[args[0]]
                if isinstance(node, _Folder):
                    node.sync()
                else:
                    node.versions = node.versions[-1:]
            case "mkdir":
                self._folder(args[0]).change((args[0][-1], _Folder()))
            case "unlink":
                self._folder(args[0]).change((args[0][-1], None))
            case "link":
                self._folder(args[1]).change((args[1][-1], self._node(args[0])))
            case "rename":
                self._do_rename(*args)

    def _do_open(self, number: int, path: tuple[str, ...], is_new: bool, truncated: bool) -> None:
        if is_new:
            self._folder(path).change((path[-1], _File()))
        self._open[number] = self._node(path)
        if truncated and not is_new:
            self._file(number).versions.append(b"")

    def _do_rename(self, source: tuple[str, ...], target: tuple[str, ...]) -> None:
        node, origin, goal = self._node(source), self._folder(source), self._folder(target)
        if origin is goal:
            origin.change((target[-1], node), (source[-1], None))
        else:
            goal.change((target[-1], node))
            origin.change((source[-1], None))

    def _file(self, number: int) -> _File:
        node = self._open[number]
        assert isinstance(node, _File)
        return node

    def _node(self, path: tuple[str, ...]) -> _File | _Folder:
        node: _File | _Folder = self.root
        for name in path:
            assert isinstance(node, _Folder)
            node = node.names[name]
        return node

    def _folder(self, path: tuple[str, ...]) -> _Folder:
        node = self._node(path[:-1])
        assert isinstance(node, _Folder)
        return node

    # ------------------------------------------------------------------ what a crash leaves

    def after_kill(self) -> Tree:
        """What is there if only the process dies: everything."""
        return self._tree(self.root, "kept", lambda folder, index: True)

    def after_power_loss(self) -> Iterator[tuple[str, Tree]]:
        """States that a power loss could leave now, and what they lost; some are alike."""
        for loss in DATA_LOSSES:
            yield f"data {loss}, all names", self._tree(self.root, loss, lambda folder, index: True)
            yield f"data {loss}, no names", self._tree(self.root, loss, lambda folder, index: False)
        folders = [folder for folder in self._folders(self.root) if folder.changes]
        for chosen in folders:
            for at in range(len(chosen.changes)):
                for words, choice in _choices(chosen, at):
                    for loss in ("kept", "lost", "zeroed"):
                        yield f"data {loss}, {words} of {len(chosen.changes)}", self._tree(self.root, loss, choice)

    def _tree(self, folder: _Folder, loss: DataLoss, choice: Choice) -> Tree:
        names = dict(folder.durable)
        for index, change in enumerate(folder.changes):
            if choice(folder, index):
                _apply(names, change)
        return {
            name: node.after(loss) if isinstance(node, _File) else self._tree(node, loss, choice)
            for name, node in names.items()
        }

    def _folders(self, folder: _Folder) -> Iterator[_Folder]:
        yield folder
        for node in folder.names.values():
            if isinstance(node, _Folder):
                yield from self._folders(node)


def _choices(chosen: _Folder, at: int) -> Iterator[tuple[str, Choice]]:
    """One folder's names lost or reordered, while those of the others are all there, or none."""
    yield f"name {at} lost", lambda folder, index: folder is not chosen or index != at
    yield f"only name {at}", lambda folder, index: folder is chosen and index == at
    yield f"names up to {at}", lambda folder, index: folder is not chosen or index <= at


def disk_of(folder: Path) -> Disk:
    """A disk on which all that stands in a folder is durable."""
    disk = Disk()
    number = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).parts
        if path.is_dir():
            disk.do(Operation("mkdir", (name,)))
            continue
        number -= 1
        disk.do(Operation("open", (number, name, True, False)))
        disk.do(Operation("write", (number, path.read_bytes(), None)))
        disk.do(Operation("fsync", (number,)))
    for folder_node in [*disk._folders(disk.root)]:
        folder_node.sync()
    return disk


def write_tree(tree: Tree, folder: Path) -> None:
    """Put a state on a real disk."""
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            write_tree(content, folder / name)
        else:
            (folder / name).write_bytes(content)
