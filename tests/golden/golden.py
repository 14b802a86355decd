"""What version 0.1.0 reported of the golden runs, and how a later report is held against it.

    reports/<name>.json  the run's `esper-analyze report --format json`; `<name>.all.json` is that of `--rank all`

A report names only the metrics that were measured in full; all others share one section. The runs themselves, with
their rows, are in `esper_schemas.testing.golden`.

Where version 0.2 answers otherwise on purpose, what it says is stored: `verdict`, and the signals that its rules look
at; `alerts`, which has one entry per rule; and the last value of a metric that the last update did not measure.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from esper_analyzer import open_run
from esper_analyzer.cli import main
from esper_schemas import RunDirectory
from esper_schemas.examining.run import verify_run
from esper_schemas.testing.golden import EXPECTED, ROWS, RUNS, Expected

FOLDER = Path(__file__).parent

_PATH = "<run>"
"""Stands in a stored report for the path of the run's folder."""

_REL_TOLERANCE = 1e-9
"""Sums may be added up in another order on another machine."""


# ------------------------------------------------------------------ reports


def report_names(name: str) -> dict[str, list[str]]:
    """The stored reports of a run, with the options that each was asked for with."""
    options = {name: ["--rank", "0"]}
    if len(list((RUNS / name).glob("rank-*"))) > 1:
        options[f"{name}.all"] = ["--rank", "all"]
    return options


def read_report(run: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `report --format json` on a run, the same wherever the run is."""
    result = CliRunner().invoke(main, ["report", "--run", str(run), "--format", "json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    text = result.stdout.replace(json.dumps(str(run))[1:-1], _PATH)
    document: dict[str, Any] = json.loads(text)
    return result.exit_code, document


def store_report(name: str, exit_code: int, document: dict[str, Any]) -> None:
    """Write a report as golden, one line for each metric."""
    metrics: dict[str, Any] = document["metrics"]
    sections = [json.dumps(section) for section in metrics.values()]
    common = max(sections, key=sections.count)
    never = [metric for metric, section in metrics.items() if json.dumps(section) == common]
    assert json.loads(common)["last"] is None
    stored: dict[str, Any] = {"exit_code": exit_code, "never_measured": never, "section": json.loads(common)}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in stored.items()]
    for key, value in document.items():
        if key == "metrics":
            kept = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items() if k not in never]
            lines.append('"metrics": {\n' + ",\n".join(kept) + "\n}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    (FOLDER / "reports" / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def stored_report(name: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a golden report."""
    document: dict[str, Any] = json.loads((FOLDER / "reports" / f"{name}.json").read_text(encoding="utf-8"))
    exit_code, section = int(document.pop("exit_code")), document.pop("section")
    document["metrics"] |= dict.fromkeys(document.pop("never_measured"), section)
    return exit_code, document


def differences(expected: Any, found: Any, at: str = "report") -> list[str]:
    """Where `found` lacks a key or a value of `expected`, one line each; further keys are no difference."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{at}.{key}: gone" for key in expected if key not in found]
        for key in expected.keys() & found.keys():
            lines += differences(expected[key], found[key], f"{at}.{key}")
        return lines
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for i, (here, there) in pairs for line in differences(here, there, f"{at}[{i}]")]
    if isinstance(expected, float) and isinstance(found, float):
        same = math.isclose(expected, found, rel_tol=_REL_TOLERANCE, abs_tol=1e-12)
    else:
        same = type(expected) is type(found) and expected == found
    return [] if same else [f"{at}: expected {expected!r}, found {found!r}"]


# ------------------------------------------------------------------ rows


def read_all_rows(run: Path) -> pa.Table:
    """The rows of a run in all attempts, with the column `is_current`."""
    opened = open_run(run)
    current = opened.updates().select("rank", "seq").with_columns(is_current=pl.lit(True))
    rows = opened.updates(all_attempts=True).join(current, on=["rank", "seq"], how="left", maintain_order="left")
    return rows.with_columns(pl.col("is_current").fill_null(False)).collect().to_arrow()


def store_rows(name: str, table: pa.Table) -> None:
    """Write rows as golden; a column that is null throughout is left out."""
    kept = table.select([column for column in table.column_names if table.column(column).null_count < table.num_rows])
    pq.write_table(kept, ROWS / f"{name}.parquet", compression="zstd", use_dictionary=False)


# ------------------------------------------------------------------ attempts and faults


def read_expected(run: Path) -> Expected:
    """What this version finds in a run, to the last row."""
    directory = RunDirectory(run)
    faults = ((fault.rank, fault.segment, fault.kind) for fault in verify_run(directory).faults)
    attempts = {rank.rank: rank.attempts() for rank in directory.ranks()}
    return Expected(frozenset(fault for fault in faults if fault[2] != "note"), attempts)


def store_expected(name: str, found: Expected) -> None:
    """Write attempts and faults of a run as golden."""
    faults = [dict(zip(("rank", "segment", "kind"), fault, strict=True)) for fault in sorted(found.faults, key=str)]
    attempts = {str(rank): [asdict(attempt) for attempt in entries] for rank, entries in found.attempts.items()}
    stored = json.loads(EXPECTED.read_text(encoding="utf-8")) | {name: {"faults": faults, "attempts": attempts}}
    EXPECTED.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n", encoding="utf-8")
