"""The house: every module in its room, no circle among modules, and one of each thing that there should be one of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGES = {
    "esper_schemas": PROJECT / "schemas" / "esper_schemas",
    "esper_recorder": PROJECT / "recorder" / "esper_recorder",
    "esper_analyzer": PROJECT / "analyzer" / "esper_analyzer",
}


def modules(package: str) -> dict[str, ast.Module]:
    """The modules of a package by their dotted names."""
    folder = PACKAGES[package]
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(module: ast.Module, known: dict[str, ast.Module]) -> Iterator[str]:
    """The modules that a module imports, wherever in it: in functions and for types only, too."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                name = submodule if submodule in known else str(node.module)
                if name in known:
                    yield name


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_among_modules(package: str) -> None:
    """No module needs itself by way of others, however late the import is made."""
    known = modules(package)
    graph = {name: {other for other in imports(module, known) if other != name} for name, module in known.items()}
    assert sum(map(len, graph.values())) > len(graph)  # the imports are found at all
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def makes_progress(module: ast.Module) -> bool:
    """Whether a module makes, or derives from, a progress bar of rich."""
    makers = {"rich.progress.Progress", "rich.progress.track"}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module in ("rich", "rich.progress"):
            known = {f"{node.module}.{alias.name}": alias.asname or alias.name for alias in node.names}
            makers |= {name for path, name in known.items() if path in makers}
            makers |= {f"{known['rich.progress']}.{name}" for name in ("Progress", "track") if "rich.progress" in known}
    calls = (node.func for node in ast.walk(module) if isinstance(node, ast.Call))
    bases = (base for node in ast.walk(module) if isinstance(node, ast.ClassDef) for base in node.bases)
    return any(ast.unparse(used) in makers for used in (*calls, *bases))


def test_one_module_makes_progress_bars() -> None:
    """Every progress bar comes from the console."""
    found = {name for package in PACKAGES for name, module in modules(package).items() if makes_progress(module)}
    assert found == {"esper_schemas.console"}


@pytest.mark.parametrize(
    "source",
    [
        "from rich.progress import Progress\nwith Progress() as bar: pass",
        "from rich.progress import Progress as Bar\nbar = Bar()",
        "import rich.progress\nbar = rich.progress.Progress()",
        "from rich import progress\nfor _ in progress.track([]): pass",
        "from rich.progress import Progress\nclass Mine(Progress): pass",
    ],
)
def test_progress_bar_is_found_however_it_is_made(source: str) -> None:
    """The test above sees each way to make one."""
    assert makes_progress(ast.parse(source))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_says_what_it_is_for(package: str) -> None:
    """The first line of every module says it, in one line."""
    for name, module in modules(package).items():
        said = ast.get_docstring(module)
        assert said, name
        assert said.split("\n")[0].endswith((".", ":")) or "\n" not in said, name
