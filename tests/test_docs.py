"""The documents say what the code does."""

from __future__ import annotations

import re
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
    path for path in PROJECT.rglob("*.md") if not any(part.startswith(".") for part in path.relative_to(PROJECT).parts)
)


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
