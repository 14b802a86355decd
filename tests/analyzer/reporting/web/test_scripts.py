"""The scripts of the pages, as `make lint-js` checks them: sound as they are, and what is wrong is found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from esper_analyzer.reporting.comparison.html import SCRIPTS as COMPARISON
from esper_analyzer.reporting.html import SCRIPTS as REPORT

PROJECT = Path(__file__).parents[4]
WEB = Path("analyzer/esper_analyzer/reporting/web")
TOOLS = {
    "tsc": ("node_modules/typescript/bin/tsc", "--project", "."),
    "eslint": ("node_modules/eslint/bin/eslint.js", "--max-warnings", "0", str(WEB)),
}


def _check(tool: str, root: Path) -> str:
    """Run one of the checks in a folder; what it finds, empty if nothing."""
    if not (PROJECT / TOOLS[tool][0]).exists():
        pytest.fail("The scripts of the pages are checked by tools that are not installed: make tools")
    node = Path(sys.executable).parent / "node"
    done = subprocess.run([node, *TOOLS[tool]], cwd=root, capture_output=True, text=True)
    assert bool(done.returncode) == bool(done.stdout), done
    assert not done.stderr
    return done.stdout


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """A copy of what is checked."""
    for name in ("package.json", "tsconfig.json", "eslint.config.mjs"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(PROJECT / WEB, tmp_path / WEB)
    (tmp_path / "node_modules").symlink_to(PROJECT / "node_modules")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "line", "found"),
    [
        ("tsc", "", ""),
        ("eslint", "", ""),
        ("tsc", 'nearest([1, 2], "1");', "TS2345: Argument of type 'string' is not assignable"),
        ("tsc", "new Axis(null).plase(1);", "TS2551: Property 'plase' does not exist on type 'Axis'"),
        ("tsc", "undeclared();", "TS2304: Cannot find name 'undeclared'"),
        ("tsc", 'document.getElementById("from").value;', "TS2531: Object is possibly 'null'"),
        ("tsc", "function untyped(value) { return value; }", "TS7006: Parameter 'value' implicitly has an 'any' type"),
        ("eslint", "if (innerWidth == 1) scrollTo(0, 0);", "eqeqeq"),
        ("eslint", "(() => { const unused = 1; })();", "no-unused-vars"),
    ],
)
def test_the_scripts_are_sound_and_a_fault_is_found(checked: Path, tool: str, line: str, found: str) -> None:
    """Neither check finds anything as it is, and each finds what it is there for, at its place."""
    script = checked / WEB / "page.js"
    script.write_text(f"{script.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    said = _check(tool, checked)
    assert (found in said, "page.js" in said) == (True, bool(line)), said


def test_the_types_are_those_of_the_library_in_the_page() -> None:
    """The types that are checked against are of the version of uPlot that is in the page."""
    needs = json.loads((PROJECT / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    library = (PROJECT / WEB / "vendor" / "uPlot.iife.min.js").read_text(encoding="utf-8")
    assert re.findall(r"\(v([\d.]+)\)", library[:200]) == [needs["uplot"]]
    assert all(re.fullmatch(r"[\d.]+", version) for version in needs.values())


def test_every_script_is_in_a_page() -> None:
    """No script is checked that no page has, and none is in a page that is not checked."""
    assert {path.name for path in (PROJECT / WEB).glob("*.js")} == {*REPORT, *COMPARISON}
