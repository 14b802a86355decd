"""What the tests in a browser know of our HTML pages: a run for them to show, and how to read and check a page."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from playwright.sync_api import FloatRect, Page

NASTY = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"

Opened = Callable[..., AbstractContextManager[Page]]

AXE = Path(__file__).parent / "axe.min.js"


def value_loss(update: int) -> float:
    """A run that begins well, has a spike, is NaN for a while, infinite once, and ends beyond its threshold."""
    if 60 <= update < 70:
        return math.nan
    return {40: 5000.25, 75: math.inf, 76: -math.inf}.get(update, 0.5 + 0.001 * update if update < 80 else 60.0)


def view(page: Page) -> tuple[int, int]:
    """First and last update shown."""
    return int(page.input_value("#from")), int(page.input_value("#to"))


def plot_area(page: Page) -> FloatRect:
    """Where on the screen the first chart is drawn, brought into view."""
    over = page.locator("#chart-0 .u-over")
    over.evaluate("plot => plot.scrollIntoView({ block: 'center' })")
    area = over.bounding_box()
    assert area is not None
    return area


DRAWN = """
    (canvas, colour) => {
        const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
        const probe = copy.getContext("2d", { willReadFrequently: true });
        probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(colour);
        probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
        probe.clearRect(0, 0, 1, 1);
        probe.drawImage(canvas, 0, 0);
        const { data } = probe.getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let at = 0; at < data.length; at += 4) {
            if (data[at] === r && data[at + 1] === g && data[at + 2] === b && data[at + 3] > 200) count++;
        }
        return count;
    }
"""


def pixels(page: Page, chart: str, colour: str) -> int:
    """How many pixels of a chart have a colour of the page."""
    return int(page.locator(f"#{chart} canvas").evaluate(DRAWN, colour))


def unfold(page: Page) -> None:
    """Open everything on the page that can be opened; charts are drawn a moment later, as they come into view."""
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")


def check_accessibility(page: Page, least_passes: int) -> None:
    """Let axe-core check the page as it is now.

    Raises:
        AssertionError: axe-core calls a fault serious or critical, or fewer than `least_passes` rules were passed, as
            on a page that shows nothing.
    """
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    serious = [
        (fault["id"], [node["html"][:200] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert len(found["passes"]) >= least_passes
