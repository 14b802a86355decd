"""Tables of numbers: as text, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from benchmark.rates import Interval, Rates

ALL = "all"


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        key: Its name in the JSON.
        title: What it shows, for people.
        records: One mapping for each row, with numbers as they are.
        cells: The same for people: one mapping of heading to text for each row.
    """

    key: str
    title: str
    records: Sequence[Mapping[str, Any]]
    cells: Sequence[Mapping[str, str]]

    def text(self) -> str:
        """Title and rows with aligned columns."""
        if not self.cells:
            return f"{self.title}\n  none\n"
        lines = [list(self.cells[0]), *(list(row.values()) for row in self.cells)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, *(f"  {line}" for line in shown), ""])

    def markdown(self) -> str:
        """A heading and a table."""
        if not self.cells:
            return f"### {self.title}\n\nNone.\n"
        lines = [list(self.cells[0]), ["---"] * len(self.cells[0]), *(list(row.values()) for row in self.cells)]
        return "\n".join([f"### {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def rates_table(key: str, title: str, named: Mapping[str, Rates]) -> Table:
    """One row of counts, shares and delays for each group of runs."""
    records = [
        {
            "group": name,
            **asdict(one),
            "critical_share": finite(one.critical_share),
            "found_share": finite(one.found_share),
        }
        for name, one in named.items()
    ]
    cells = [
        {
            "": name,
            "sound, ever critical": counted(one.critical, one.sound, one.critical_share),
            "broken, found": counted(one.found, one.broken, one.found_share),
            "before the onset": f"{one.early} of {one.later}" if one.later else "–",
            "delay, updates": _number(one.delay),
            "delay, steps": _number(one.delay_steps),
            "unclear": str(one.unclear),
        }
        for name, one in named.items()
    ]
    return Table(key, title, records, cells)


def alarms_table(key: str, title: str, named: Mapping[str, Rates]) -> Table:
    """One row of false alarms for each group of runs: per run, per 1,000 and per 100,000 updates."""
    records: list[dict[str, Any]] = []
    cells: list[dict[str, str]] = []
    for name, one in named.items():
        alarms = one.critical + one.early
        per = {updates: one.alarms_per(updates) for updates in (1_000, 100_000)}
        records.append(
            {"group": name, "alarms": alarms, "updates": one.watched, "per_run": finite(one.critical_share)}
            | {f"per_{updates}_updates": finite(each) for updates, each in per.items()}
        )
        cells.append(
            {"": name, "false alarms": str(alarms), "updates watched": f"{one.watched:,}"}
            | {"per sound run": _interval(one.critical_share)}
            | {f"per {updates:,} updates": _interval(each) for updates, each in per.items()}
        )
    return Table(key, title, records, cells)


def grouped(cases: pl.DataFrame, by: str, *, total: bool = False) -> dict[str, Rates]:
    """The counts of each group of `cases` with the same `by`, in the order of their names, and of all of them."""
    found = {str(name): Rates.of(cases.filter(pl.col(by) == name)) for name in sorted(cases[by].unique())}
    return found | {ALL: Rates.of(cases)} if total else found


def by_reason(cases: pl.DataFrame) -> dict[str, Rates]:
    """The counts of broken runs by what failed; a run may be broken for several reasons."""
    broken = cases.filter(pl.col("label") == "broken")
    return {
        reason: Rates.of(broken.filter(pl.col("reasons").str.split(", ").list.contains(reason)))
        for reason in ("critic", "return", "not finite")
    }


def rules_table(key: str, title: str, cases: pl.DataFrame) -> Table:
    """How often each rule made a run critical first; several may at once."""
    fired = (
        cases.filter(pl.col("first_critical").is_not_null(), pl.col("label") != "unclear")
        .with_columns(pl.col("rules").str.split(", ").alias("rule"))
        .explode("rule")
        .group_by("rule")
        .agg(
            pl.col("false_alarm").sum().alias("false_alarms"),
            (pl.col("found").is_not_null() & ~pl.col("false_alarm")).sum().alias("found"),
            (pl.col("found").is_null() & ~pl.col("false_alarm")).sum().alias("too_late"),
        )
        .sort(["false_alarms", "found", "rule"], descending=[True, True, False])
    )
    heads = {"rule": "rule", "false_alarms": "false alarms", "found": "broken runs found", "too_late": "too late"}
    records = fired.to_dicts()
    return Table(key, title, records, [{heads[name]: str(value) for name, value in row.items()} for row in records])


VERDICTS = ("healthy", "unknown", "warning", "critical")
"""The levels of a verdict, for people to read in this order."""


def levels_table(key: str, title: str, cases: pl.DataFrame) -> Table:
    """What was said of the runs of each label in the end, and how many were ever at warning or worse."""
    records: list[dict[str, Any]] = []
    for label in ("sound", "broken", "unclear"):
        runs = cases.filter(pl.col("label") == label)
        ended = {level: int((runs["last"] == level).sum()) for level in VERDICTS}
        records.append({"group": label, "runs": len(runs)} | ended | {"ever": runs["first_warning"].count()})
    heads = {"group": "", "runs": "runs"} | {level: f"{level} in the end" for level in VERDICTS}
    heads["ever"] = "ever warning or worse"
    return Table(key, title, records, [{heads[name]: str(row[name]) for name in heads} for row in records])


def list_table(key: str, title: str, cases: pl.DataFrame, columns: Sequence[str]) -> Table:
    """Each run on a line of its own."""
    records = cases.select(columns).to_dicts()
    return Table(
        key,
        title,
        records,
        [{name: "–" if value in (None, "") else str(value) for name, value in row.items()} for row in records],
    )


def finite(interval: Interval) -> list[float | None]:
    """Estimate, low and high; null where there is no estimate."""
    return [None if math.isnan(value) else value for value in interval]


def counted(count: int, total: int, interval: Interval) -> str:
    """A count of so many with its interval in percent, for people; a dash of none."""
    return f"{count} of {total} ({100 * interval.low:.1f}–{100 * interval.high:.1f} %)" if total else "–"


def _interval(interval: Interval) -> str:
    value, low, high = interval
    return "–" if math.isnan(value) else f"{value:.3g} ({low:.3g}–{high:.3g})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
