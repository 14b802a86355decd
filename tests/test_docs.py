"""The documents say what the code does."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Group

from esper_analyzer.cli import main as esper_analyze
from esper_analyzer.judging.rules import INFORMING, SIGNALS
from esper_recorder.cli import main as esper_rec
from esper_schemas import METRICS
from esper_schemas.errors import EsperError
from esper_schemas.metric.table import markdown

PROJECT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for path in PROJECT.rglob("*.md")
    if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(PROJECT).parts)
)

CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")

PACKAGES = ("schemas/esper_schemas", "recorder/esper_recorder", "analyzer/esper_analyzer")

LONG_LINES = {"CHANGELOG.md", "schemas/README.md"}
"""Documents whose lines may be longer: one that is not rewritten yet, and one that is generated."""

MAX_LINE = 110
"""Lines end at about 100 characters; so many are an error."""

AVOIDED = (
    r"its likes",
    r"(?:is|are) none",
    r"ill",
    r"rhythm",
    r"nursery",
    r"oracle",
    r"by decree",
    r"(?:is|are|be) no damage",
    r"held against",
    r"for ever",
)
"""Words that nobody in this field uses, as patterns; the field's own word says it."""


def prose(document: Path) -> Iterator[tuple[int, str]]:
    """The lines of a document with their numbers, without blocks of code, tables and targets of links."""
    in_code = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and not line.lstrip().startswith("|"):
            yield number, re.sub(r"\]\([^)]*\)", "]", line)


def test_the_metrics_document_is_the_table() -> None:
    """schemas/README.md is what `python -m esper_schemas.metric.table` prints."""
    assert (PROJECT / "schemas" / "README.md").read_text() == markdown()


def test_every_metric_is_documented() -> None:
    """Each metric has a description of one line."""
    assert all(metric.description and "\n" not in metric.description for metric in METRICS.values())


@pytest.mark.parametrize(("name", "group"), [("esper-rec", esper_rec), ("esper-analyze", esper_analyze)])
def test_every_command_is_documented(name: str, group: Group) -> None:
    """Each command has a help sentence and an example, and stands in the README."""
    readme = (PROJECT / "README.md").read_text()
    for command in group.commands.values():
        assert f"`{name} {command.name}`" in readme
        assert command.help
        assert f"Example: {name} {command.name}" in command.help


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Each relative link in a document points to a file that is there."""
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_anchors_lead_to_headings(document: Path) -> None:
    """Each link to a section names a heading of the document that it leads to."""
    for name, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in name:
            text = (document.parent / name if name else document).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", sorted({str(path.relative_to(PROJECT)) for path in DOCUMENTS} - LONG_LINES))
def test_lines_are_short(name: str) -> None:
    """No line of a document is longer than 110 characters, outside tables, blocks of code and targets of links."""
    assert [number for number, line in prose(PROJECT / name) if len(line) > MAX_LINE] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_words_are_those_of_the_field(document: Path) -> None:
    """No document uses a word that is to be avoided, except as code."""
    avoided = re.compile(rf"\b(?:{'|'.join(AVOIDED)})\b", re.IGNORECASE)
    text = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert avoided.findall(" ".join(text.split())) == []


def test_contributing_names_every_room() -> None:
    """Each room of the three packages stands in the table of tests, and no room that is not there."""
    rooms = {
        str(init.parent.relative_to(package.parent))
        for package in (PROJECT / name for name in PACKAGES)
        for init in package.rglob("__init__.py")
        if init.parent != package
    }
    assert set(re.findall(r"^\| `(esper_\w+/[\w/]+)` \|", CONTRIBUTING, re.MULTILINE)) == rooms


def test_contributing_names_files_that_exist() -> None:
    """Each path that a recipe or the table of tests names is there."""
    named = set(re.findall(r"(?<![\w/])(?:tests|schemas|recorder|analyzer)/[\w/.]+", CONTRIBUTING))
    assert len(named) > 50
    assert sorted(path for path in named if not (PROJECT / path).exists()) == []


def test_the_error_tree_is_the_one_drawn() -> None:
    """The docstring of `esper_schemas.errors` draws every error class there is."""
    drawn = __import__("esper_schemas.errors").errors.__doc__

    def names(error: type[EsperError]) -> list[str]:
        return [error.__name__, *(name for child in error.__subclasses__() for name in names(child))]

    assert all(name in drawn for name in names(EsperError))


def test_promises_name_tests_that_exist() -> None:
    """Each test that FORMAT.md names as the proof of a promise is there."""
    named = re.findall(r"`(tests/[\w/]+\.py)`", (PROJECT / "schemas" / "FORMAT.md").read_text())
    assert named
    assert all((PROJECT / name).exists() for name in named)


def test_every_signal_is_documented() -> None:
    """Each signal of the report stands in the analyzer's README."""
    readme = (PROJECT / "analyzer" / "README.md").read_text()
    for name in (*SIGNALS, *INFORMING):
        assert f"`{name}`" in readme, name


PUBLIC = {
    "esper_schemas": "schemas/FORMAT.md",
    "esper_recorder": "recorder/README.md",
    "esper_analyzer": "analyzer/README.md",
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_those_that_are_documented(package: str) -> None:
    """What a package exports is named in its document, and nothing else is imported from it there."""
    exported = set(importlib.import_module(package).__all__)
    text = (PROJECT / PUBLIC[package]).read_text(encoding="utf-8")
    assert [name for name in sorted(exported) if f"`{name}`" not in text] == []


def test_documents_import_public_names_only() -> None:
    """A snippet takes its names from the top of a package, from an adapter, or from the parts of the trainer."""
    below: list[str] = []
    for path in [*DOCUMENTS, *PROJECT.glob("notebooks/*.ipynb")]:
        for module, names in re.findall(
            r"from (esper_\w+(?:\.\w+)*) import ([\w, ]+)", path.read_text(encoding="utf-8")
        ):
            if module in PUBLIC:
                exported = importlib.import_module(module).__all__
                below += [f"{path.name}: {module}.{name}" for name in names.split(", ") if name.strip() not in exported]
            elif not module.startswith(("esper_recorder.adapters.", "esper_recorder.train.", "esper_schemas.testing")):
                below.append(f"{path.name}: {module}")
    assert below == []


def test_the_first_screenful_has_the_figures_of_the_table() -> None:
    """What README.md says of the verdict before the demo are the rows of fresh runs and of environments left out."""
    first, _, rest = (PROJECT / "README.md").read_text(encoding="utf-8").partition("make demo")
    (row,) = re.findall(r"^\| \*\*[^|]*fresh runs, judged once [^|]*\*\* .*$", rest, re.MULTILINE)
    (earlier,) = re.findall(r"^\| earlier fresh runs, .*$", rest, re.MULTILINE)
    assert f"these were {' and '.join(re.findall(r'[0-9]+ of [0-9]+', earlier))} (" in " ".join(first.split())
    sound, broken = re.findall(r"\d+ of \d+", row)
    counts = [int(count) for pair in (sound, broken) for count in pair.split(" of ")]
    assert f"called {sound} sound ones critical" in " ".join(first.split())
    assert f"and {broken} broken" in " ".join(first.split())
    assert f"Of {counts[1] + counts[3]} fresh runs, judged once" in first
    (left_out,) = re.findall(r"^\| left out by environment .*$", rest, re.MULTILINE)
    now, found = re.findall(r"\d+ of \d+", left_out)
    assert f"today's rules call {now} sound runs critical, and {found} broken ones" in " ".join(first.split())
