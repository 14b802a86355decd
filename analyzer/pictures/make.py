"""Makes the pictures of the README from real runs, so that they never go stale; `make pictures` runs it.

    tail.svg      the screen of `esper-analyze tail`, on a run of CartPole that goes well
    report.png    the page of `esper-analyze report --format html`, on one whose critic gets no gradient

The runs are seeded, so apart from their times a picture changes only when what it shows does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from playwright.sync_api import sync_playwright

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.reporting.html import report_html
from esper_analyzer.terminal.app.app import EsperApp

PICTURES = Path(__file__).parent
COLUMNS, LINES = 110, 34


def train(root: Path, name: str, *options: str) -> None:
    """A run of the built-in trainer."""
    command = [sys.executable, "-m", "esper_recorder", "train", "--out", str(root), "--run-id", name, *options]
    subprocess.run(command, check=True, capture_output=True)


async def draw_screen(root: Path, name: str) -> str:
    """The screen of `tail` as SVG, once the whole run is judged."""
    app = EsperApp(open_run(name, root), 0, style=Style(color=True, unicode=True))
    async with app.run_test(size=(COLUMNS, LINES)) as pilot:
        while app.scene.picture.verdict is None:
            await pilot.pause(0.1)
        await pilot.pause(1.0)
        return app.export_screenshot(title="esper-analyze tail")


def photograph(page_file: Path, picture: Path) -> None:
    """The first screen of a page as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 760}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.wait_for_timeout(1500)
        page.screenshot(path=str(picture))
        browser.close()


def main() -> None:
    """Train, draw, save."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        train(root, "cartpole")
        (PICTURES / "tail.svg").write_text(asyncio.run(draw_screen(root, "cartpole")), encoding="utf-8")
        train(root, "no-critic", "--vf-coef", "0", "--updates", "60")
        run, page = open_run("no-critic", root), Path(folder) / "report.html"
        page.write_text(report_html(run, run.report()), encoding="utf-8")
        photograph(page, PICTURES / "report.png")


if __name__ == "__main__":
    main()
