"""How the runs of a batch are stored: which columns, how precisely, and written so that a file is whole or absent.

A batch is two files: `NNNN.runs.jsonl`, one line per run, and `NNNN.parquet`, one row per update. The Parquet file is
renamed into place last, so that a batch is complete if it is there, and is never written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

PRECISE, COARSE, ROUGH = 11, 7, 5
"""Bits of a mantissa that are kept, of the 23 of float32. Relative errors are at most 1 in 4,096, 256 and 64: small
beside the noise of the metric, and only a quarter of the space."""

FLOATS: Mapping[str, int] = {
    "policy_loss": ROUGH,
    "value_loss": COARSE,
    "value_loss_unclipped": COARSE,
    "entropy": COARSE,
    "entropy_coef": PRECISE,
    "learning_rate": COARSE,
    "vf_coef": PRECISE,
    "clip_range": PRECISE,
    "kl_divergence": ROUGH,
    "clip_fraction": ROUGH,
    "clip_fraction_positive": ROUGH,
    "clip_fraction_negative": ROUGH,
    "ratio_mean": PRECISE,
    "ratio_min": ROUGH,
    "ratio_max": ROUGH,
    "ratio_std": ROUGH,
    "log_prob_min": ROUGH,
    "log_prob_max": ROUGH,
    "pre_clip_grad_norm": ROUGH,
    "grad_norm": ROUGH,
    "explained_variance": PRECISE,
    "v_return_correlation": COARSE,
    "value_mean": PRECISE,
    "value_std": COARSE,
    "value_min": ROUGH,
    "value_max": ROUGH,
    "return_mean": PRECISE,
    "return_std": COARSE,
    "return_p10": ROUGH,
    "return_p50": ROUGH,
    "return_p90": ROUGH,
    "advantage_mean": ROUGH,
    "advantage_std": COARSE,
    "advantage_skewness": ROUGH,
    "advantage_positive_ratio": ROUGH,
    "td_error_mean": ROUGH,
    "td_error_std": ROUGH,
    "bellman_error": ROUGH,
    "value_target_scale": COARSE,
    "episode_return_mean": COARSE,
    "episode_length_mean": COARSE,
}
"""Metrics that are stored as float32, and how precisely. Times are left out, and `value_nrmse`, which follows from
explained variance, means and deviation."""

INTEGERS = (
    "env_steps",
    "episodes",
    "epochs_run",
    "minibatches",
    "samples",
    "early_stop_epoch",
    "nan_grad_count",
    "inf_grad_count",
    "skip_reason",
)
"""Counts, stored exactly, as int32."""

TRUTH = ("own_return", "own_episodes")
"""What the environments really paid in an update: mean return and number of the episodes that ended. This is for
labels, never for a verdict. Stored only where it is not what the trainer was told."""

TOLD = {"own_return": "episode_return_mean", "own_episodes": "episodes"}
"""What the trainer was told of the same."""


def rounded(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """`values` to the nearest number with `bits` bits of mantissa; NaN and infinities stay."""
    dropped = 23 - bits
    whole = np.ascontiguousarray(values, np.float32).view(np.int32)
    kept = ((whole + (1 << (dropped - 1))) & ~((1 << dropped) - 1)).view(np.float32)
    return np.where(np.isfinite(values) & np.isfinite(kept), kept, values).astype(np.float32)


def stored_rows(rows: pl.DataFrame, run: int, episodes: Iterable[tuple[int, float, int]]) -> pl.DataFrame:
    """The rows of one run as they are stored.

    Args:
        rows: As `Run.updates()` gives them.
        run: Number of the run.
        episodes: Those of the run's ledger.
    """
    columns: dict[str, pl.Series] = {
        "run": pl.Series([run] * len(rows), dtype=pl.Int32),
        "update": rows["update"].cast(pl.Int32),
    }
    for name in INTEGERS:
        columns[name] = _column(rows, name).cast(pl.Int32)
    columns["skipped"] = _column(rows, "skipped").cast(pl.Boolean)
    for name, bits in FLOATS.items():
        columns[name] = _rounded(_column(rows, name), bits)
    paid: dict[int, list[float]] = {}
    for update, earned, _ in episodes:
        paid.setdefault(update, []).append(earned)
    updates = rows["update"].to_list()
    means = [float(np.mean(paid[update])) if update in paid else None for update in updates]
    columns["own_return"] = _rounded(pl.Series(means, dtype=pl.Float64), COARSE)
    columns["own_episodes"] = pl.Series([len(paid.get(update, ())) for update in updates], dtype=pl.Int32)
    if all(_is_alike(columns[own], columns[name]) for own, name in TOLD.items()):
        columns |= {own: pl.Series([None] * len(rows), dtype=columns[own].dtype) for own in TRUTH}
    return pl.DataFrame(columns)


def _is_alike(one: pl.Series, other: pl.Series) -> bool:
    """Whether two columns say the same, but for rounding."""
    differs = (one - other).abs() > other.abs() / 64
    return bool((one.is_null() == other.is_null()).all() and not differs.any())


def _column(rows: pl.DataFrame, name: str) -> pl.Series:
    return rows[name] if name in rows.columns else pl.Series([None] * len(rows), dtype=pl.Float64)


def _rounded(column: pl.Series, bits: int) -> pl.Series:
    values = column.cast(pl.Float64).fill_null(0.0).to_numpy()
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite in it
        stored = pl.Series(rounded(values.astype(np.float32), bits), dtype=pl.Float32)
    return pl.select(pl.when(column.is_not_null()).then(stored)).to_series()


def write_batch(folder: Path, number: int, rows: pl.DataFrame, runs: Iterable[Mapping[str, Any]]) -> Path:
    """Write a finished batch; its Parquet file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(run, separators=(",", ":")) + "\n" for run in runs)
    _replace(runs_path(folder, number), lambda path: path.write_text(lines, encoding="utf-8"))
    table = rows.to_arrow()
    table = table.cast(pa.schema([(name, table.schema.field(name).type) for name in table.schema.names]))
    floats = [name for name in rows.columns if rows[name].dtype == pl.Float32]
    # One encoding for all floats: bytes of equal weight together, which is what zstd finds something in.
    encodings = dict.fromkeys(floats, "BYTE_STREAM_SPLIT") | dict.fromkeys(
        ("update", "env_steps"), "DELTA_BINARY_PACKED"
    )
    dictionaries = [name for name in rows.columns if name not in encodings]

    def write(path: Path) -> None:
        pq.write_table(
            table,
            path,
            compression="zstd",
            compression_level=19,
            use_dictionary=dictionaries,
            column_encoding=encodings,
            write_statistics=False,
            store_schema=False,
        )

    return _replace(batch_path(folder, number), write)


def batch_path(folder: Path, number: int) -> Path:
    """The rows of a batch."""
    return folder / f"{number:04d}.parquet"


def runs_path(folder: Path, number: int) -> Path:
    """The runs of a batch."""
    return folder / f"{number:04d}.runs.jsonl"


def _replace(path: Path, write: Any) -> Path:
    """Write beside `path`, make it durable, and rename it into place."""
    beside = path.with_name(path.name + ".tmp")
    write(beside)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
    return path


def has_batches(folder: Path) -> bool:
    """Whether there is a complete batch in `folder`."""
    return any(folder.glob("*.parquet"))


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """The runs of all complete batches in `folder`, in the order of their numbers."""
    runs: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.parquet")):
        lines = path.with_suffix(".runs.jsonl").read_text(encoding="utf-8").splitlines()
        runs += [json.loads(line) for line in lines]
    return sorted(runs, key=lambda run: int(run["run"]))


def read_rows(folder: Path) -> pl.LazyFrame:
    """The rows of all complete batches in `folder`, ordered by run and update, with `TRUTH` filled in."""
    rows = pl.scan_parquet(sorted(folder.glob("*.parquet")))
    is_told = pl.col("own_episodes").is_null().all().over("run")
    truth = [pl.when(is_told).then(name).otherwise(own).alias(own) for own, name in TOLD.items()]
    return rows.with_columns(truth).sort("run", "update")
