"""The verdict on a run now: is the critic learning? One level, and the reasons for it, the worst first.

It judges the current state, not the past: the last ten updates after a warm-up of ten. One value beyond a
threshold is an alert; the verdict asks for several. What each rule says:

- A value or policy loss that is not finite, or a negative value loss, is critical at once, also in warm-up.
- Three skipped updates in a row, still going on, are critical; any skipped update is a warning.
- The critic is judged by its normalised value error, 2·Lv / Var(targets): 1 is what predicting the mean
  achieves. A median above 1 is a warning; above 2 in 8 of the 10 updates is critical, so that a critic which
  still catches up with fast-growing returns is not condemned. Where no returns are recorded, 1 − explained
  variance is the same quantity; where neither is, the absolute thresholds of the value loss decide.
- Once the returns hardly vary any more (a solved task), a critic cannot explain their variance. So the
  variance is taken to be at least that which returns usually had in this run, and explained variance is
  judged only where returns vary at least half as much as usual.
- Policy metrics (KL, clip fraction, entropy, gradient norm) far beyond their thresholds for most of the last
  ten updates are a warning; they are symptoms, and do not decide on the critic. Lv/Lp never decides.
- Missing updates, dropped rows and damaged files are warnings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import polars as pl

from esper_analyzer.health import LEVELS, severity
from esper_schemas.metrics import SKIP_REASONS, Level

WARM_UP_UPDATES = 10
WINDOW = 10
"""Updates that the verdict looks at, after the warm-up."""

SUSTAINED = 8
"""What decides on a run for good must have been so in this many of the last ten updates."""

NMSE_WARNING = 1.0
NMSE_CRITICAL = 2.0
"""Bounds of the normalised value error; 1 is the error of a critic that predicts the mean return."""

MIN_SPREAD = 0.5
"""Explained variance counts only where returns vary at least this much, relative to what is usual in the run."""

_LOSSES = {"value_loss": "Value loss", "policy_loss": "Policy loss"}
_POLICY = {
    "kl_divergence": "KL divergence",
    "clip_fraction": "Clip fraction",
    "entropy": "Entropy",
    "pre_clip_grad_norm": "Gradient norm before clipping",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Level of a run and why, the worst reason first; each reason is one sentence."""

    level: Level
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the verdict needs to know beside the last rows.

    Attributes:
        updates: number of updates in the view.
        missing: ranges of updates that are not there.
        dropped: rows that the recorder dropped.
        damage: faults that are damage.
        return_std: standard deviation of the returns that is usual in the run (its median); None if unknown.
        definition_is_assumed: whether the trainer did not say what its value loss is.
    """

    updates: int
    missing: Sequence[tuple[int, int]] = ()
    dropped: int = 0
    damage: int = 0
    return_std: float | None = None
    definition_is_assumed: bool = False


@dataclass(frozen=True, slots=True)
class _Finding:
    level: Level
    sentence: str


def judge(recent: pl.DataFrame, facts: RunFacts) -> Verdict:
    """Judge a run.

    Args:
        recent: at least the last 10 rows of its view (fewer if there are fewer), in order, all columns.
        facts: what else is known about the run.
    """
    rows = recent.tail(WINDOW).to_dicts()
    findings = [*_losses(rows), *_skips(rows), *_data(facts)]
    judged = recent.tail(min(WINDOW, max(0, facts.updates - WARM_UP_UPDATES)))
    measured = any(row["value_loss"] is not None or row["policy_loss"] is not None for row in rows)
    if judged.height:
        findings += [*_critic(judged, facts), *_policy(judged)]
    elif measured:
        said = f"Only {facts.updates} update{'s' * (facts.updates != 1)} so far; thresholds apply after the first "
        findings.append(_Finding("unknown", f"{said}{WARM_UP_UPDATES}."))
    if not rows:
        findings.append(_Finding("unknown", "Nothing has been recorded yet."))
    elif not measured and all(finding.level == "unknown" for finding in findings):
        findings.append(_Finding("unknown", "No loss has been measured."))
    findings.sort(key=lambda finding: -LEVELS.index(finding.level))
    reasons = [finding.sentence for finding in findings]
    if facts.definition_is_assumed and measured:
        reasons.append("The trainer did not declare its value loss; half the mean squared error is assumed.")
    return Verdict(findings[0].level if findings else "unknown", reasons)


def _losses(rows: Sequence[dict[str, Any]]) -> list[_Finding]:
    found = []
    for name, title in _LOSSES.items():
        bad = [row for row in rows if _is_impossible(name, row.get(name)) and not row["skipped"]]
        if bad:
            value, update = bad[-1][name], bad[-1]["update"]
            what = "not a number" if math.isnan(value) else f"{value:.3g}"
            what += ", which a squared error cannot be," if math.isfinite(value) else ""
            since = f", as in {len(bad)} of the last {len(rows)} updates" if len(bad) > 1 else ""
            found.append(_Finding("critical", f"{title} is {what} at update {update}{since}."))
    return found


def _is_impossible(name: str, value: float | None) -> bool:
    if value is None:
        return False
    return not math.isfinite(value) or (name != "policy_loss" and value < 0.0)


def _skips(rows: Sequence[dict[str, Any]]) -> list[_Finding]:
    skipped = [row for row in rows if row["skipped"]]
    if not skipped:
        return []
    streak = 0
    while streak < len(rows) and rows[-1 - streak]["skipped"]:
        streak += 1
    code = skipped[-1]["skip_reason"]
    why = f" ({SKIP_REASONS.get(code, f'reason {code}')})" if code is not None else ""
    if streak >= 3:
        first, last = rows[-streak]["update"], rows[-1]["update"]
        return [_Finding("critical", f"The last {streak} updates, {first} to {last}, were skipped{why}.")]
    count, last = len(skipped), skipped[-1]["update"]
    said = f"update {last} was" if count == 1 else f"{count} of the last {len(rows)} updates were"
    tail = why if count == 1 else f", the newest {last}{why}"
    return [_Finding("warning", f"{said[0].upper()}{said[1:]} skipped{tail}.")]


def _data(facts: RunFacts) -> list[_Finding]:
    found = []
    if facts.missing:
        count = sum(last - first + 1 for first, last in facts.missing)
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in facts.missing[:3])
        more = ", …" if len(facts.missing) > 3 else ""
        found.append(_Finding("warning", f"{count} update{_s(count)} {_are(count)} missing: {shown}{more}."))
    if facts.dropped:
        count = facts.dropped
        found.append(_Finding("warning", f"The recorder had to drop {count} row{_s(count)}."))
    if facts.damage:
        count = facts.damage
        found.append(_Finding("warning", f"The run's files are damaged: {count} fault{_s(count)}, listed below."))
    return found


def _critic(recent: pl.DataFrame, facts: RunFacts) -> list[_Finding]:
    """The critic by its error against the variance of the returns, else by explained variance, else absolutely."""
    at = f"at update {recent['update'][-1]}"
    over = f"(median of the last {recent.height} updates, {at})" if recent.height > 1 else at
    errors = normalised_value_error(recent, facts.return_std)
    if errors:
        error = median(errors)
        said = (
            f"The critic's squared error is {100 * error:.3g} % of the variance that returns usually have here {over}"
        )
        said += ": worse than predicting their mean." if error > NMSE_WARNING else "."
        return [_Finding(_nmse_level(errors), said), *_explained_variance(recent, facts, over)]
    explained = _explained(recent, facts)
    if explained:
        value = median(explained)
        said = f"Explained variance is {value:.3g} {over}"
        said += ": worse than predicting the mean return." if value < 0.0 else "."
        return [_Finding(_nmse_level([1.0 - value for value in explained]), said)]
    return _absolute(recent, over)


def normalised_value_error(recent: pl.DataFrame, usual_return_std: float | None) -> list[float]:
    """2·Lv / Var(value targets) of each row that carries both; 1 is the error of predicting the mean.

    Lv is the unclipped half-MSE where recorded, else the value loss. The targets are returns divided by
    `value_target_scale`; their variance is taken to be no smaller than `usual_return_std` makes it.
    """
    loss = pl.coalesce("value_loss_unclipped", "value_loss")
    std = pl.max_horizontal("return_std", pl.lit(usual_return_std, pl.Float64))
    scale = pl.col("value_target_scale").fill_null(1.0)
    error = 2.0 * loss / (std / scale) ** 2
    usable = loss.is_finite() & pl.col("return_std").is_not_null() & (std > 1e-12) & scale.is_finite() & (scale > 0)
    return recent.select(pl.when(usable & error.is_finite()).then(error)).to_series().drop_nulls().to_list()


def _explained(recent: pl.DataFrame, facts: RunFacts) -> list[float]:
    varied = pl.lit(True)
    if facts.return_std is not None:
        varied = pl.col("return_std").is_null() | (pl.col("return_std") >= MIN_SPREAD * facts.return_std)
    value = pl.col("explained_variance")
    return recent.filter(value.is_finite() & varied)["explained_variance"].to_list()


def _explained_variance(recent: pl.DataFrame, facts: RunFacts, over: str) -> list[_Finding]:
    explained = _explained(recent, facts)
    if not explained or (value := median(explained)) > 0.0:
        return []
    said = f"Explained variance is {value:.3g} {over}: before each update the critic predicts no better than the mean."
    return [_Finding("warning", said)]


def _nmse_level(errors: Sequence[float]) -> Level:
    if sum(error > NMSE_CRITICAL for error in errors) >= SUSTAINED:
        return "critical"
    return "warning" if median(errors) > NMSE_WARNING else "healthy"


def _absolute(recent: pl.DataFrame, over: str) -> list[_Finding]:
    levels = recent.select(severity("value_loss")).to_series()
    values = recent["value_loss"].drop_nulls()
    if not len(values):
        return []
    middle = values.median()
    assert isinstance(middle, float)
    typical = int(levels.drop_nulls().sort()[(len(values) - 1) // 2])
    level = LEVELS[min(typical, 2 if (levels == 2).sum() >= SUSTAINED else 1) + 1]
    said = f"Value loss is {middle:.3g} {over}, judged by absolute thresholds since no returns are recorded."
    return [_Finding(level, said)]


def _policy(recent: pl.DataFrame) -> list[_Finding]:
    found = []
    for name, title in _POLICY.items():
        if name == "entropy" and _is_continuous(recent):
            continue
        critical = recent.filter(severity(name) == 2)
        if critical.height >= SUSTAINED:
            value, update = critical[name][-1], critical["update"][-1]
            said = f"{title} was critical in {critical.height} of the last {recent.height} updates"
            found.append(_Finding("warning", f"{said}, {value:.3g} at update {update}."))
    return found


def _is_continuous(recent: pl.DataFrame) -> bool:
    """Whether actions are continuous, so that the entropy's thresholds do not apply: densities exceed 1."""
    above = recent.filter((pl.col("log_prob_max") > 0.0) | (pl.col("entropy") < 0.0))
    return above.height > 0


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
