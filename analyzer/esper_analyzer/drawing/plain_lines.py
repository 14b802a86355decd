"""Updates as plain lines of text, for a pipe, a log file or a notebook without a front end."""

from __future__ import annotations

import polars as pl

from esper_analyzer.measuring.levels import level, loss_ratio
from esper_analyzer.wording import number
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.severity import Thresholds

_COLUMNS = ("update", "value_loss", "policy_loss", "skipped")


def plain_lines(rows: pl.LazyFrame, thresholds: Thresholds) -> list[str]:
    """Return a line for each update, with the level of its value loss."""
    judged = rows.select(*_COLUMNS, loss_ratio(), level("value_loss", thresholds).alias("level")).collect()
    return [_line(row) for row in judged.iter_rows(named=True)]


def _line(row: dict[str, float | None]) -> str:
    return (
        f"update {row['update']}  V.Loss {number(row['value_loss'])} {'skipped' if row['skipped'] else row['level']}"
        f"  P.Loss {number(row['policy_loss'])}  Lv/Lp {number(row[LOSS_RATIO])}"
    )
