"""The tools that people could use instead, on the same runs.

Each is fed row by row, as a training loop would feed it, with default settings, through its public classes, and with
every number that it has a name for. Its highest severity is "critical". None of them is needed for anything else:

    python -m pip install -r notebooks/benchmark/rivals.txt
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from benchmark.judged import LEVELS, Judged, summed_up

EVERY = 25
"""rlprobe and rldoctor look at a run every so many rows by default; both look once more at its end here."""

WARNING, CRITICAL = LEVELS.index("warning"), LEVELS.index("critical")

Said = Iterator[tuple[int, tuple[str, ...]]]
"""For each row, what was in force after it: an index of `LEVELS`, and the names of the worst findings."""


def _rlprobe(rows: pl.DataFrame) -> Said:
    """`diagnose_view` on the records so far, and critical where `HaltPolicy` would halt the run."""
    doctor, live = importlib.import_module("rlprobe.doctor.engine"), importlib.import_module("rlprobe.doctor.live")
    runview, schemas = importlib.import_module("rlprobe.doctor.runview"), importlib.import_module("rlprobe.schemas")
    manifest = schemas.RunManifest(run_id="run", created_at="2026-01-01T00:00:00+00:00", algorithm="ppo")
    policy, records = live.HaltPolicy(), []
    severity, names = 0, ()
    for number, row in enumerate(_mapped(rows, RLPROBE), start=1):
        records.append(schemas.StepRecord(**row))
        if number % EVERY == 0 or number == len(rows):
            findings = doctor.diagnose_view(runview.RunView(manifest, records))
            halting = [one for one in findings if policy.should_halt([one]) is not None]
            severity = CRITICAL if halting else WARNING * any(one.severity != "info" for one in findings)
            names = tuple(one.signature_id for one in halting)
        yield severity, names


def _rldoctor(rows: pl.DataFrame) -> Said:
    """`LiveMonitor`, and critical while its newest diagnosis is."""
    live, base = importlib.import_module("rl_doctor.live"), importlib.import_module("rl_doctor.detectors.base")
    monitor = live.LiveMonitor(on_finding=lambda finding: None)
    critical, warning = base.Severity.CRITICAL, base.Severity.WARNING
    for number, row in enumerate(_mapped(rows, RLDOCTOR), start=1):
        monitor.log(row)
        if number == len(rows):
            monitor.check()
        worst = monitor.worst
        problems = monitor.latest.problems if worst == critical else ()
        names = tuple(one.detector for one in problems if one.severity == critical)
        yield CRITICAL if worst == critical else WARNING if worst == warning else 0, names


def _rlwatch(rows: pl.DataFrame) -> Said:
    """`DetectorSuite`, and critical at each row with a critical alert.

    That is what `attach` makes an alert of, without the database and the pages that it writes.
    """
    config, detectors = importlib.import_module("rlwatch.config"), importlib.import_module("rlwatch.detectors")
    suite = detectors.DetectorSuite(config.RLWatchConfig(framework="manual"))
    for row in _mapped(rows, RLWATCH):
        alerts = suite.check_step(**row)
        names = tuple(one.detector for one in alerts if one.severity == "critical")
        yield CRITICAL if names else WARNING * bool(alerts), names


TOTAL_LOSS = "total loss"
"""Not a column: policy_loss + value_loss, for tools that take one loss. They only look whether it is finite."""

RLPROBE: Mapping[str, str] = {
    "step": "update",
    "loss": TOTAL_LOSS,
    "value_loss": "value_loss",
    "value_explained_variance": "explained_variance",
    "reward_mean": "episode_return_mean",
    "entropy_mean": "entropy",
    "kl_mean": "kl_divergence",
    "clip_fraction": "clip_fraction",
    "ratio_mean": "ratio_mean",
    "adv_mean": "advantage_mean",
    "adv_std": "advantage_std",
    "lr": "learning_rate",
    "grad_norm": "pre_clip_grad_norm",
    "grad_norm_post_clip": "grad_norm",
    "nan_count": "nan_grad_count",
    "inf_count": "inf_grad_count",
}
RLDOCTOR: Mapping[str, str] = {
    "step": "update",
    "policy_loss": "policy_loss",
    "reward": "episode_return_mean",
    "entropy": "entropy",
    "kl": "kl_divergence",
    "clipfrac": "clip_fraction",
    "clip_ratio/low_mean": "clip_fraction_negative",
    "clip_ratio/high_mean": "clip_fraction_positive",
    "advantage/mean": "advantage_mean",
    "advantage/std": "advantage_std",
    "learning_rate": "learning_rate",
    "grad_norm": "pre_clip_grad_norm",
    "explained_variance": "explained_variance",
}
RLWATCH: Mapping[str, str] = {
    "step": "update",
    "loss": TOTAL_LOSS,
    "reward_mean": "episode_return_mean",
    "entropy": "entropy",
    "kl_divergence": "kl_divergence",
    "advantage_std": "advantage_std",
    "grad_norm": "pre_clip_grad_norm",
}
"""Their names, and our column for each. What they call KL is that to a reference model; here it is that to the policy
of the rollout. Names for text and its length, for groups of answers and for parts of rewards have no column."""


@dataclass(frozen=True)
class Rival:
    """One tool.

    Attributes:
        name: As it is installed.
        module: As it is imported.
        columns: Its names, and our column for each.
        said: Feeds it a run.
    """

    name: str
    module: str
    columns: Mapping[str, str]
    said: Callable[[pl.DataFrame], Said]

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported."""
        return importlib.util.find_spec(self.module) is not None

    def judged(self, rows: pl.DataFrame) -> Judged:
        """Judge one run, as `judged.judged` does; `last` is "healthy" where the tool says nothing."""
        with _quiet():
            said = list(self.said(rows))
        severities = np.array([severity for severity, _ in said], np.int8)
        first = next((names for severity, names in said if severity == CRITICAL), ())
        last = said[-1] if said else (0, ())
        return summed_up(rows, severities, LEVELS[last[0]], first, last[1])


RIVALS = (
    Rival("rlprobe", "rlprobe", RLPROBE, _rlprobe),
    Rival("rldoctor", "rl_doctor", RLDOCTOR, _rldoctor),
    Rival("rlwatch", "rlwatch", RLWATCH, _rlwatch),
)


def _mapped(rows: pl.DataFrame, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows by the names of a tool, without what was not recorded."""
    total = {
        name: pl.col("policy_loss") + pl.col("value_loss") for name, column in columns.items() if column == TOTAL_LOSS
    }
    taken = {name: pl.col(column) for name, column in columns.items() if column in rows.columns}
    for row in rows.select(**taken, **total).iter_rows(named=True):
        yield {name: value for name, value in row.items() if value is not None}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings that a tool's arithmetic makes of NaN off the screen."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
