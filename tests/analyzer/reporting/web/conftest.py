"""The HTML report in a real browser: Chromium, headless, driven over its debugging protocol."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.analyzer.reporting.web.html_page import NASTY, Opened, value_loss
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_analyzer.reporting.html import report_html
from esper_recorder import Recorder

HANG_MS = 1000 * HANG_SECS
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")  # torn down before tests that need an event loop of their own
def browser() -> Iterator[Browser]:
    """One browser for all tests; without one they fail, since nothing else shows whether the page works."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.fail("The HTML report is tested in Chromium, which is not installed: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has no sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments, timeout=HANG_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with all that a chart has to show, and with a hostile name."""
    root = tmp_path_factory.mktemp("html")
    rng = np.random.default_rng(0)
    with Recorder.open(root, run_id="sick", trainer=NASTY, env=NASTY, config={NASTY: NASTY}) as recorder:
        for update in range(120):
            if 20 <= update < 24:
                continue  # a gap
            for number in range(3):
                recorder.minibatch(value_loss=value_loss(update), policy_loss=0.1 * number, **{NASTY: float(number)})
            recorder.record(
                update=update,
                policy_loss=float(rng.normal()),
                value_loss=value_loss(update),
                entropy=0.6,
                kl_divergence=0.01,
                explained_variance=-0.005,
                return_std=1.0,
                clip_fraction=0.1,
                pre_clip_grad_norm=math.nan,
                extras={NASTY: float(update), "other": 1.0},
            )
    run = open_run(root / "sick")
    path = root / "sick.html"
    path.write_text(report_html(run, run.report()), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Opened:
    """Open the file in a fresh context; any message on the console, error or request of its own fails the test."""

    @contextmanager
    def _opened(width: int = 1280, height: int = 900, file: Path = file, **options: Any) -> Iterator[Page]:
        options = {"reduced_motion": "reduce", **options}  # a place on the page is the same a moment later
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(HANG_MS)
        page = context.new_page()
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: trouble.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]", state="attached")
        yield page
        context.close()
        assert [said for said in trouble if not said.startswith("data:")] == []

    return _opened
