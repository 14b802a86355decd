"""The house: every module in its room, no circle among modules, and one of each thing that there should be one of."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from esper_schemas.metric.levels import PALETTE

PROJECT = Path(__file__).parent.parent
PACKAGES = {
    "esper_schemas": PROJECT / "schemas" / "esper_schemas",
    "esper_recorder": PROJECT / "recorder" / "esper_recorder",
    "esper_analyzer": PROJECT / "analyzer" / "esper_analyzer",
}


@cache
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


def tables_of_levels(module: ast.Module) -> Iterator[str]:
    """The kind of each literal that lists the levels: `order` for a sequence or set, `looks` for a mapping."""
    for node in ast.walk(module):
        if isinstance(node, ast.Dict):
            kind, parts = "looks", node.keys
        elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            kind, parts = "order", [*node.elts, *(inner for one in node.elts for inner in getattr(one, "elts", []))]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            kind, parts = "looks", [ast.Constant(keyword.arg) for keyword in node.keywords]
        else:
            continue
        if {"healthy", "warning", "critical"} <= {part.value for part in parts if isinstance(part, ast.Constant)}:
            yield kind


def test_levels_have_one_order_and_one_palette() -> None:
    """One module lists the levels, and one, beside it, says how they look; all others take them from there."""
    found = [
        (name, kind) for package in PACKAGES for name, one in modules(package).items() for kind in tables_of_levels(one)
    ]
    assert found == [("esper_schemas.metric.levels", "looks"), ("esper_schemas.metric.metrics", "order")]


@pytest.mark.parametrize(
    "text",
    [
        'A = {"critical": "red", "warning": "yellow", "healthy": "green"}',
        'A = ["healthy", "warning", "critical"]',
        'A = (("healthy", 0), ("warning", 1), ("critical", 2))',
        'Level = Literal["healthy", "warning", "critical", "unknown"]',
        "A = dict(healthy=0, warning=1, critical=2)",
        'def rank(level):\n    return ("unknown", "healthy", "warning", "critical").index(level)',
    ],
)
def test_another_table_of_levels_is_found(text: str) -> None:
    """A second order or palette is found however it is written."""
    assert list(tables_of_levels(ast.parse(text)))


def test_no_other_file_has_the_colours_of_levels() -> None:
    """Neither a module nor a style sheet or script of a page repeats a colour of the palette as that of a level."""
    grounds = [ground for look in PALETTE.values() for ground in (look.light, look.dark)]
    bands = {ground.band for ground in grounds if ground.band}
    ours = {look.color for look in PALETTE.values()} | {ground.tint for ground in grounds} | bands
    files = [path for folder in PACKAGES.values() for path in sorted(folder.rglob("*")) if "vendor" not in path.parts]
    for path in files:
        if path.suffix in (".py", ".css", ".js", ".jinja") and path.name != "levels.py":
            text = path.read_text(encoding="utf-8")
            assert not [color for color in ours if color in text], path
            assert not re.search(r"--(band-)?(unknown|healthy|warning|critical)(-tint)?\s*:\s*[#r]", text), path


# ---------------------------------------------------------------------- one of each


def calls(module: ast.Module) -> Iterator[ast.Call]:
    """Every call in a module."""
    return (node for node in ast.walk(module) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    """The last name of what is called: `c` of `a.b.c(…)`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def names(module: ast.Module) -> set[str]:
    """What a module imports by name."""
    return {alias.name for node in ast.walk(module) if isinstance(node, ast.ImportFrom) for alias in node.names}


def functions(module: ast.Module, name: str) -> list[ast.FunctionDef]:
    """The functions of a module, methods aside, that have this name, with or without an underscore."""
    return [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name.lstrip("_") == name]


def where(package: str, is_it: Callable[[ast.Module], bool], *rooms: str) -> set[str]:
    """The modules of a package, or of some of its rooms, of which something is so."""
    parts = tuple(f"{package}.{room}" for room in rooms) or (package,)
    return {name for name, module in modules(package).items() if name.startswith(parts) and is_it(module)}


def test_one_follower() -> None:
    """Only the live feed follows a rank, and only it and the replay's feed make pictures."""
    assert where("esper_analyzer", lambda module: "RankFollower" in names(module)) == {"esper_analyzer.live.live"}
    made = where("esper_analyzer", lambda module: any(called(call) == "RankFollower" for call in calls(module)))
    assert made == {"esper_analyzer.live.live"}
    pictures = where("esper_analyzer", lambda module: any(_is_full_picture(call) for call in calls(module)))
    assert pictures == {"esper_analyzer.live.live", "esper_analyzer.live.recorded"}


def _is_full_picture(call: ast.Call) -> bool:
    return called(call) == "Picture" and any(keyword.arg == "verdict" for keyword in call.keywords)


def test_one_gap_finder() -> None:
    """Only one module compares an update with the one before, and so says whether rows go on, repeat or leave a gap."""
    assert where("esper_analyzer", lambda module: any(map(_compares_updates, calls(module)))) == {
        "esper_analyzer.reading.gaps"
    }


def _compares_updates(call: ast.Call) -> bool:
    """Whether this is `X.shift(…)` or `X.diff(…)` of updates: a column, an entry or a variable of that name."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("shift", "diff"):
        return False
    of = call.func.value
    text = {node.value for node in ast.walk(of) if isinstance(node, ast.Constant)}
    return "update" in text or (isinstance(of, ast.Name) and of.id in ("update", "updates"))


def test_one_heading_and_one_table_of_losses() -> None:
    """What stands above a run on a screen, and its losses, are drawn by one function each."""
    text_rooms = ("drawing", "terminal")
    heading = where("esper_analyzer", lambda module: bool(functions(module, "heading")), *text_rooms)
    assert heading == {"esper_analyzer.drawing.heading"}
    rows = where(
        "esper_analyzer", lambda module: any(called(call) == "metric_row" for call in calls(module)), *text_rooms
    )
    assert rows == {"esper_analyzer.drawing.panels"}
    status = where("esper_analyzer", lambda module: "●" in strings(module), *text_rooms)
    assert status == {"esper_analyzer.drawing.heading"}


def strings(module: ast.Module) -> str:
    """All text that a module may write, docstrings and tables of single characters aside."""
    documented = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    found = (node for node in ast.walk(module) if isinstance(node, ast.Constant) and id(node) not in documented)
    return "\n".join(node.value for node in found if isinstance(node.value, str) and len(node.value) > 1)


def test_one_keeper_of_a_course() -> None:
    """Smallest and largest values are accumulated by the history alone; charts are given what it made."""
    made = where("esper_analyzer", lambda module: any(called(call) == "Buckets" for call in calls(module)))
    assert made == {"esper_analyzer.measuring.history"}


def test_one_scanner() -> None:
    """Sealed files become rows in one place of the analyzer, and row messages in one room of the format."""
    readers = {"scan_parquet", "read_parquet", "scan_ipc", "read_ipc", "ParquetFile", "open_stream", "read_table"}
    scans = where("esper_analyzer", lambda module: any(called(call) in readers for call in calls(module)))
    assert scans == {"esper_analyzer.reading.current_rows"}
    decoding = where("esper_schemas", lambda module: any(map(_decodes, calls(module))))
    decoding -= where("esper_schemas", bool, "testing")  # which cuts and breaks row messages where it means to
    assert decoding
    assert all(name.startswith("esper_schemas.segment.") for name in decoding), decoding


def _decodes(call: ast.Call) -> bool:
    """Whether this makes rows of the bytes of an active segment: by a layout of its rows, or Arrow's own reader."""
    if called(call) in ("open_stream", "read_record_batch", "read_message", "read_schema"):
        return True
    of = call.func.value if isinstance(call.func, ast.Attribute) else None
    is_layout = (isinstance(of, ast.Name) and "layout" in of.id.lower()) or (
        isinstance(of, ast.Attribute) and "layout" in of.attr.lower()
    )
    return is_layout and called(call) in ("decode", "scan", "read")
