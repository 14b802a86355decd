"""What the study comes to: how often each rule cries wolf and how often it detects, with intervals, and the figure.

    python notebooks/calibration/figure.py

writes `figure.svg` beside this file from `results.parquet`. The notebook shows the same numbers and the same figure.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

RESULTS = Path(__file__).with_name("results.parquet")
FIGURE = Path(__file__).with_name("figure.svg")

RULES = {
    "bare value loss": "bare rule: value loss",
    "bare Lv/Lp": "bare rule: Lv/Lp",
    "bare trend": "bare rule: 20 % trend",
    "critical": "Esper: verdict critical",
}
"""The columns of `results.parquet` that hold a rule's first alarm, and what the figure calls them."""

_COLOURS = {name: "#0b6e4f" if name == "critical" else "#8a8f98" for name in RULES}


def interval(hits: int, runs: int) -> tuple[float, float]:
    """Exact 95 % interval of a share (Clopper and Pearson, Biometrika 26, 1934)."""
    found = binomtest(hits, runs).proportion_ci(confidence_level=0.95, method="exact")
    return float(found.low), float(found.high)


def alarms(results: pl.DataFrame, rule: str) -> dict[str, object]:
    """How often a rule raised an alarm among some runs, at any of their updates.

    Args:
        results: rows of `results.parquet`; at least one.
        rule: the column of its first alarm.

    Returns:
        `runs`, `alarms`, their `share` with its interval `low` to `high`; `too_soon`, the alarms that came before
        the run was broken, and the quartiles of the others' delay since it was, in updates: `q1`, `median`, `q3`,
        None where there are none.
    """
    first = results[rule]
    hits = len(first.drop_nulls())
    low, high = interval(hits, len(results))
    since = (first - results["break_update"]).drop_nulls()
    delay = since.filter(since >= 0)
    found: dict[str, object] = {"runs": len(results), "alarms": hits, "share": hits / len(results)}
    found |= {"low": low, "high": high, "too_soon": len(since) - len(delay)}
    return found | {name: delay.quantile(q, "linear") for name, q in (("q1", 0.25), ("median", 0.5), ("q3", 0.75))}


def rates(results: pl.DataFrame, rules: tuple[str, ...] = tuple(RULES)) -> pl.DataFrame:
    """`alarms` of each rule, in each half, among healthy and among broken runs: a row each."""
    return pl.DataFrame(
        [
            {"half": half, "broken": broken, "rule": rule} | alarms(results.filter(half=half, broken=broken), rule)
            for half in ("held-back", "tuning")
            for broken in (False, True)
            for rule in rules
        ]
    )


def draw(results: pl.DataFrame) -> Figure:
    """False alarms and detections of each rule on the held-back half, side by side, with their intervals."""
    held_back = rates(results).filter(half="held-back")
    with mpl.rc_context({"font.size": 10, "font.family": "DejaVu Sans"}):  # comes with matplotlib
        figure = Figure(figsize=(9.6, 2.9), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, held_back.filter(~pl.col("broken")), "Healthy runs with an alarm: fewer is better")
        _panel(right, held_back.filter("broken"), "Broken runs with an alarm: more is better")
        left.set_yticks(range(len(RULES)), RULES.values())
        left.invert_yaxis()
    return figure


def _panel(axes: Axes, rows: pl.DataFrame, title: str) -> None:
    for position, row in enumerate(rows.iter_rows(named=True)):
        share, colour = 100 * row["share"], _COLOURS[row["rule"]]
        reach = [[share - 100 * row["low"]], [100 * row["high"] - share]]
        axes.errorbar(share, position, xerr=reach, fmt="o", color=colour, capsize=4, markersize=7, linewidth=2)
        to_left = share > 50  # where there is room for the numbers
        edge, offset, side = (row["low"], -8, "right") if to_left else (row["high"], 8, "left")
        label = f"{row['alarms']} of {row['runs']}"
        place = (100 * edge, position)
        axes.annotate(label, place, (offset, 0), textcoords="offset points", va="center", ha=side)
    axes.set_title(title, fontsize=10)
    axes.set(xlim=(-3, 103), ylim=(-0.6, len(rows) - 0.4), xlabel="% of runs, with exact 95 % intervals")
    axes.grid(axis="x", color="#e3e5e8")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def describe(results: pl.DataFrame) -> str:
    """What the figure shows, in words: it stands in the file, and tells whether the file is of these results."""
    rows = rates(results).filter(half="held-back")
    return "; ".join(
        f"{RULES[rule]}: {_counted(rows.filter(rule=rule, broken=False))} healthy runs with an alarm, "
        f"{_counted(rows.filter(rule=rule, broken=True))} broken ones"
        for rule in RULES
    )


def _counted(row: pl.DataFrame) -> str:
    return f"{row['alarms'].item()} of {row['runs'].item()}"


def save(results: pl.DataFrame, path: Path = FIGURE) -> None:
    """Write the figure as SVG, text as paths; the same results give the same bytes."""
    metadata = {"Date": None, "Title": "False alarms and detections", "Description": describe(results)}
    with mpl.rc_context({"svg.hashsalt": "calibration", "svg.fonttype": "path"}):
        draw(results).savefig(path, format="svg", metadata=metadata)


if __name__ == "__main__":
    save(pl.read_parquet(RESULTS))
