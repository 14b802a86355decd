"""Makes the pictures of the READMEs from the two runs of `make demo`; `make pictures` runs it.

    tail.svg      the screen of `esper-analyze tail`, on the run that learns
    report.png    the page of `esper-analyze report --format html`, on the run with a typo in its learning rate

The runs are seeded and the sizes are fixed, so apart from its times a picture changes only when what it shows does.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from playwright.sync_api import ViewportSize, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.reporting.html import report_html
from esper_analyzer.terminal.app.app import EsperApp

PICTURES = Path(__file__).parent
COLUMNS, LINES = 100, 30
PAGE: ViewportSize = {"width": 1000, "height": 760}
"""Cells and pixels; GitHub shows about 850 pixels of width."""

SETTLE_SECS = 1.0
"""What is drawn last, such as the charts, is on the screen by then."""

INK, GREY = (36, 41, 47), (87, 96, 106)

COLOURS = [INK, (207, 34, 46), (17, 99, 41), (138, 90, 0), (9, 105, 218), (130, 80, 223), (20, 110, 120), GREY]
"""Black, red, green, yellow, blue, magenta, cyan and white of a terminal, all of them dark enough for white paper."""

PAPER = TerminalTheme((255, 255, 255), INK, COLOURS, COLOURS)
"""Dark text on white; bright colours are the same as the normal ones."""


def train(root: Path, name: str, *options: str, ending: int = 0) -> None:
    """Record a run of the built-in trainer, which must end with the exit code `ending`."""
    command = [sys.executable, "-m", "esper_recorder", "train", "--device", "cpu", "--out", str(root)]
    done = subprocess.run([*command, "--run-id", name, *options], check=False, capture_output=True, text=True)
    if done.returncode != ending:
        raise SystemExit(f"esper-rec train {' '.join(options)} ended with {done.returncode}:\n{done.stderr}")


async def draw_screen(root: Path, name: str) -> str:
    """The screen of `tail` as SVG on white, once the whole run is judged."""
    app = EsperApp(open_run(name, root), 0, style=Style(color=True, unicode=True))
    async with app.run_test(size=(COLUMNS, LINES)) as pilot:
        while app.scene.picture.verdict is None:
            await pilot.pause(0.1)
        await pilot.pause(SETTLE_SECS)
        # App.export_screenshot does the same, but always in the colours of a dark terminal.
        console = Console(width=COLUMNS, height=LINES, file=io.StringIO(), force_terminal=True, record=True)
        console.print(app.screen._compositor.render_update(full=True))
        return console.export_svg(title="esper-analyze tail", theme=PAPER, unique_id="tail")


def photograph(page_file: Path, picture: Path) -> None:
    """The first screen of a page as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=PAGE, color_scheme="light")
        page.goto(page_file.as_uri())
        page.wait_for_timeout(1000 * SETTLE_SECS)
        page.screenshot(path=str(picture))
        browser.close()


def main() -> None:
    """Train, draw, save."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        train(root, "sound")
        (PICTURES / "tail.svg").write_text(asyncio.run(draw_screen(root, "sound")), encoding="utf-8")
        train(root, "typo", "--learning-rate", "4e-8", "--stop-on", "critical", ending=1)
        run, page = open_run("typo", root), Path(folder) / "report.html"
        page.write_text(report_html(run, run.report()), encoding="utf-8")
        photograph(page, PICTURES / "report.png")


if __name__ == "__main__":
    main()
