"""The page of a comparison as a file: what is in it, what is not, and how large it is."""

from __future__ import annotations

import base64
import itertools
import json
import re
import zlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from esper_analyzer.cli import main
from esper_analyzer.measuring.series import lines_of_runs
from esper_analyzer.reporting.comparison.html import line_data, stretch_width
from esper_analyzer.reporting.html_charts import pack
from esper_recorder import Recorder

NASTY = "</script><b>&\x1b[31m"
ROWS = 3000


def data_of(page: str) -> dict[str, Any]:
    """The data of the charts."""
    packed = re.search(r'id="data">([^<]*)<', page)
    assert packed is not None
    unpacked: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed[1])))
    return unpacked


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two long runs with every metric that a chart may show, a spike in one of them, and hostile settings."""
    root = tmp_path_factory.mktemp("html")
    rng = np.random.default_rng(0)
    names = ("policy_loss", "entropy", "kl_divergence", "value_nrmse", "bellman_error", "v_return_correlation",
             "clip_fraction", "pre_clip_grad_norm", "return_mean", "explained_variance")  # fmt: skip
    for run in ("a", "b"):
        values = rng.normal(size=(ROWS, len(names))).tolist()
        with Recorder.open(root, run_id=run, config={NASTY: run}, strict=True) as recorder:
            for update, row in enumerate(values):
                rest = dict(zip(names, row, strict=True))
                loss = 98765.4321 if (run, update) == ("a", 1717) else 1.0 + row[0] ** 2
                recorder.record(update=update, value_loss=loss, episode_return_mean=float(update), **rest)
    file = root / "made.html"
    with pytest.raises(SystemExit) as left:
        main(["compare", str(root / "a"), str(root / "b"), "--format", "html", "--output", str(file)])
    assert not left.value.code
    return file.read_text(encoding="utf-8")


def test_twelve_metrics_the_return_first(page: str) -> None:
    """The order is that of every page, after the return."""
    names = [chart["name"] for chart in data_of(page)["charts"]]
    assert len(names) == 12
    assert names[:4] == ["episode_return_mean", "value_loss", "policy_loss", "loss_ratio"]


def test_extremes_are_kept_and_each_stretch_has_two_points_at_most(page: str) -> None:
    """The spike is in the file at its own update, to seven digits."""
    data = data_of(page)
    assert data["width"] == 2
    line = next(chart for chart in data["charts"] if chart["name"] == "value_loss")["lines"][0]
    assert data["runs"][line["run"]]["name"] == "a"
    at = line["values"].index(max(value for value in line["values"] if value is not None))
    assert line["values"][at] == 98765.43
    assert list(itertools.accumulate(line["updates"]))[at] == 1717
    assert len(line["values"]) <= ROWS


def test_it_needs_no_network_and_runs_only_its_own_scripts(page: str) -> None:
    """No address of another machine, a strict policy, and no text of a run as markup."""
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    assert NASTY not in page
    assert "\x1b" not in page
    assert "&lt;/script&gt;&lt;b&gt;&amp;\\x1b[31m" in page


def test_fifty_runs_are_within_the_size() -> None:
    """More lines have fewer stretches each, so that 50 runs with 12 metrics stay below 5 MB however long they are."""
    assert stretch_width(10_000, 600) == 34
    rng = np.random.default_rng(0)
    values = rng.normal(size=10_000).astype(np.float32).astype(np.float64)
    rows = pl.LazyFrame({"update": range(10_000), "rank": [0] * 10_000, "value_loss": values})
    line = lines_of_runs([rows], ["value_loss"], [[]], (0, 34))[0]["value_loss"]
    assert len(pack(line_data(0, line))) * 600 < 4_500_000  # noise from end to end compresses worst
