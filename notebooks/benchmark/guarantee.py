"""Measures what the e-detector promises: how long it runs to a false alarm, and how late it finds a fall.

    python notebooks/benchmark/guarantee.py [--markdown] [--floor 0.1] [--runs 1000]

Takes about a minute of one core. The seed is fixed, so the same command prints the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log10, sqrt

import click
import numpy as np
from numpy.typing import NDArray

from esper_analyzer.judging.e_detector import FRACTIONS, EDetector

Values = NDArray[np.float64]
Rng = np.random.Generator

LOW, HIGH = -1.0, 1.0
"""Explained variance is clipped to these."""

CAP = 6.0
"""The cap of the detector, beyond every threshold here."""

PORTION = 1024
"""Number of updates that are drawn, and judged, at a time."""

FALSE_ALARMS = (100.0, 1000.0)
"""1/α, the thresholds at which run lengths to a false alarm are measured."""

HORIZON = 50_000
"""A run without an alarm ends after so many updates, and counts with that length."""

RULE = 1e5
"""The threshold of a rule, for which a false alarm is too rare to wait for."""

RUN = 1000
"""Updates of one training run."""

CHOICES = ((0.05, 0.1), FRACTIONS, (0.1, 0.25, 0.5, 0.9))
"""Bets that are compared, as fractions of the largest one that is allowed."""

SOUND_MEAN, SOUND_UPDATES = 0.6, 200
"""Explained variance before a fall, and for how long: uniform ± 0.3."""


@dataclass(frozen=True)
class Process:
    """Noise around a mean.

    Attributes:
        name: what it is, for the table.
        is_null: whether its mean given the past never falls below the mean that was asked for. Otherwise only its
            marginal mean is that.
        portions: from a generator, a number of runs and a mean, endlessly draws [PORTION, runs] further values.
    """

    name: str
    is_null: bool
    portions: Callable[[Rng, int, float], Iterator[Values]]


def room(mean: float) -> float:
    """How far values can lie from their mean on both sides."""
    return min(HIGH - mean, mean - LOW)


def uniform(half_width: float) -> Callable[[Rng, int, float], Iterator[Values]]:
    """Independent values, uniform around the mean."""

    def portions(rng: Rng, runs: int, mean: float) -> Iterator[Values]:
        half = min(half_width, room(mean))
        while True:
            yield rng.uniform(mean - half, mean + half, (PORTION, runs))

    return portions


def two_point(rng: Rng, runs: int, mean: float) -> Iterator[Values]:
    """Independent values, each the lowest or the highest possible one."""
    while True:
        yield np.where(rng.random((PORTION, runs)) < (mean - LOW) / (HIGH - LOW), HIGH, LOW)


def beta(rng: Rng, runs: int, mean: float) -> Iterator[Values]:
    """Independent values of a Beta distribution over the whole range, a + b = 3."""
    share = (mean - LOW) / (HIGH - LOW)
    while True:
        yield LOW + (HIGH - LOW) * rng.beta(3 * share, 3 * (1 - share), (PORTION, runs))


def two_point_arch(rng: Rng, runs: int, mean: float) -> Iterator[Values]:
    """Up or down with even chances, the further the further the value before lay from the mean."""
    distance = np.full(runs, 0.2)
    while True:
        values = np.empty((PORTION, runs))
        for row, sign in zip(values, rng.choice([-1.0, 1.0], (PORTION, runs)), strict=True):
            row[:] = mean + sign * distance
            distance = np.minimum(np.sqrt(0.03 + 0.9 * distance**2 * rng.uniform(0, 2, runs)), room(mean))
        yield values


def garch(rng: Rng, runs: int, mean: float) -> Iterator[Values]:
    """Uniform around the mean, with a width that remembers the last fifty values: GARCH(1,1)."""
    variance = np.full(runs, 0.1)
    while True:
        values = np.empty((PORTION, runs))
        for row, draw in zip(values, rng.uniform(-1, 1, (PORTION, runs)), strict=True):
            row[:] = draw * np.minimum(np.sqrt(3 * variance), room(mean))
            variance = 0.002 + 0.1 * row**2 + 0.88 * variance
        yield mean + values


def falls_in_clusters(rng: Rng, runs: int, mean: float) -> Iterator[Values]:
    """Rare falls to the lowest value, much likelier after a fall; the other values make up for them."""
    highest_risk = min(0.3, (HIGH - mean) / (HIGH - LOW))  # beyond it, no value is high enough to make up
    has_fallen = np.zeros(runs, bool)
    while True:
        values = np.empty((PORTION, runs))
        for row, draw in zip(values, rng.random((PORTION, runs)), strict=True):
            risk = np.where(has_fallen, highest_risk, 0.02)
            has_fallen = draw < risk
            row[:] = np.where(has_fallen, LOW, (mean - risk * LOW) / (1 - risk))
        yield values


def autoregressive(phi: float, deviation: float = 0.3) -> Callable[[Rng, int, float], Iterator[Values]]:
    """Gaussian AR(1) noise around the mean, stationary, cut off at equal distances so that its mean stays."""

    def portions(rng: Rng, runs: int, mean: float) -> Iterator[Values]:
        state = deviation * rng.standard_normal(runs)
        while True:
            values = deviation * sqrt(1 - phi**2) * rng.standard_normal((PORTION, runs))
            for row in values:
                row += phi * state
                state = row
            yield mean + np.clip(values, -room(mean), room(mean))

    return portions


INDEPENDENT = Process("independent, uniform ± 0.5", True, uniform(0.5))
REMEMBERING = Process("AR(1), φ = 0.9", False, autoregressive(0.9))
PROCESSES = (
    INDEPENDENT,
    Process("independent, −1 or 1", True, two_point),
    Process("independent, beta", True, beta),
    Process("volatility follows the value before (ARCH)", True, two_point_arch),
    Process("volatility with a memory (GARCH)", True, garch),
    Process("falls in clusters", True, falls_in_clusters),
    Process("AR(1), φ = 0.5", False, autoregressive(0.5)),
    REMEMBERING,
    Process("AR(1), φ = 0.98", False, autoregressive(0.98)),
)


def make_detector(floor: float, fractions: Sequence[float] = FRACTIONS) -> EDetector:
    """The detector as a rule on explained variance uses it."""
    return EDetector(floor=floor, low=LOW, high=HIGH, fractions=fractions, cap=CAP)


def run_lengths(
    process: Process,
    mean: float,
    detectors: Sequence[EDetector],
    thresholds: Sequence[float],
    *,
    horizon: int,
    seed: int = 1,
) -> Values:
    """Count the updates to the first alarm, in one run for each detector, from the state that it has.

    Returns:
        [thresholds, runs] number of updates up to and with the alarm; infinite without an alarm within `horizon`.
    """
    bounds = [log10(threshold) for threshold in thresholds]
    lengths = np.full((len(thresholds), len(detectors)), np.inf)
    updates = 0
    for portion in process.portions(np.random.default_rng(seed), len(detectors), mean):
        portion = portion[: horizon - updates]
        for run in np.flatnonzero(np.isinf(lengths).any(axis=0)).tolist():
            levels = detectors[run].extend(portion[:, run])
            for i, bound in enumerate(bounds):
                if np.isinf(lengths[i, run]) and (levels >= bound).any():
                    lengths[i, run] = updates + np.argmax(levels >= bound) + 1
        updates += len(portion)
        if updates == horizon or np.isfinite(lengths).all():
            break
    return lengths


def mean_and_error(lengths: Values) -> tuple[float, float]:
    """The mean of some run lengths, at most `HORIZON` each, and its standard error."""
    finite = np.minimum(lengths, HORIZON)
    return float(finite.mean()), float(finite.std(ddof=1) / sqrt(len(finite)))


def false_alarm_rows(floor: float, runs: int) -> Iterator[list[str]]:
    """For each process at the floor, the average run length to a false alarm with its 95 % interval."""
    for process in PROCESSES:
        detectors = [make_detector(floor) for _ in range(runs)]
        row = [process.name, "yes" if process.is_null else "no"]
        for lengths in run_lengths(process, floor, detectors, FALSE_ALARMS, horizon=HORIZON):
            mean, error = mean_and_error(lengths)
            row.append(f"{mean:,.0f} ({mean - 1.96 * error:,.0f} to {mean + 1.96 * error:,.0f})")
        yield row


def single_run_rows(floor: float, runs: int) -> Iterator[list[str]]:
    """For each process at the floor and above, the share of runs with an alarm of the rule."""
    for process in PROCESSES:
        row = [process.name, "yes" if process.is_null else "no"]
        for mean in (floor, floor + 0.1, floor + 0.2):
            detectors = [make_detector(floor) for _ in range(runs)]
            lengths = run_lengths(process, mean, detectors, [RULE], horizon=RUN)
            row.append(f"{np.isfinite(lengths).mean():.2%}")
        yield row


def delays(
    process: Process, mean: float, floor: float, runs: int, thresholds: Sequence[float], fractions: Sequence[float]
) -> Values:
    """As `run_lengths`, from the end of `SOUND_UPDATES` sound updates, after which the mean falls."""
    before = np.random.default_rng(0).uniform(SOUND_MEAN - 0.3, SOUND_MEAN + 0.3, (runs, SOUND_UPDATES))
    detectors = [make_detector(floor, fractions) for _ in range(runs)]
    for detector, values in zip(detectors, before, strict=True):
        detector.extend(values)
    return run_lengths(process, mean, detectors, thresholds, horizon=HORIZON)


def delay_rows(floor: float, runs: int) -> Iterator[list[str]]:
    """For falls to several means, updates to the alarm: the mean, and what 95 % of runs need at most."""
    for process in (INDEPENDENT, REMEMBERING):
        for mean in (floor / 2, 0.0, -0.5):
            row = [process.name, f"{mean:g}"]
            for lengths in delays(process, mean, floor, runs, (*FALSE_ALARMS, RULE), FRACTIONS):
                row.append(f"{mean_and_error(lengths)[0]:,.0f} ({np.quantile(lengths, 0.95):,.0f})")
            yield row


def choice_rows(floor: float, runs: int) -> Iterator[list[str]]:
    """For each choice of bets, alarms of the rule in noise with a memory above the floor, and delays after falls."""
    for fractions in CHOICES:
        row = [", ".join(map(str, fractions))]
        detectors = [make_detector(floor, fractions) for _ in range(runs)]
        lengths = run_lengths(REMEMBERING, floor + 0.2, detectors, [RULE], horizon=RUN)
        row.append(f"{np.isfinite(lengths).mean():.2%}")
        for mean in (0.0, -0.5):
            lengths = delays(INDEPENDENT, mean, floor, runs, [RULE], fractions)
            row.append(f"{mean_and_error(lengths[0])[0]:,.0f}")
        yield row


def recovery_rows(floor: float) -> Iterator[list[str]]:
    """After a long fall, updates at a constant value until the statistic is below the threshold of the rule."""
    for value in (floor + 0.1, floor + 0.2, SOUND_MEAN):
        detector = make_detector(floor)
        detector.extend(np.full(5000, -0.5))
        levels = detector.extend(np.full(5000, value))
        yield [f"{value:g}", f"{np.argmax(levels < log10(RULE)) + 1:,}"]


def render(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """One table as text, in columns or in Markdown."""
    if markdown:
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join([f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, *rows]
    shown = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([title, "", *shown])


def tables(floor: float, runs: int, *, markdown: bool) -> Iterator[str]:
    """All tables as text, one after another."""
    null = "within the null"
    yield render(
        f"Average run length to a false alarm at a mean of {floor:g}, the floor ({runs:,} runs, 95 % interval)",
        ["noise", null, *(f"1/α = {threshold:,.0f}" for threshold in FALSE_ALARMS)],
        list(false_alarm_rows(floor, runs)),
        markdown=markdown,
    )
    yield render(
        f"Runs of {RUN:,} updates with an alarm at {RULE:,.0f}; promised within the null: at most {RUN / RULE:.0%}",
        ["noise", null, *(f"mean {mean:g}" for mean in (floor, floor + 0.1, floor + 0.2))],
        list(single_run_rows(floor, runs)),
        markdown=markdown,
    )
    yield render(
        f"Updates from a fall to the alarm, after {SOUND_UPDATES} updates at {SOUND_MEAN:g}: mean (95 % of runs)",
        ["noise", "mean falls to", *(f"1/α = {threshold:,.0f}" for threshold in (*FALSE_ALARMS, RULE))],
        list(delay_rows(floor, runs)),
        markdown=markdown,
    )
    yield render(
        f"Choices of bets, at {RULE:,.0f}: alarms in {RUN:,} updates of a memory above the floor, and mean delays",
        ["fractions", f"{REMEMBERING.name}, mean {floor + 0.2:g}", "independent, falls to 0", "to -0.5"],
        list(choice_rows(floor, runs)),
        markdown=markdown,
    )
    yield render(
        f"Updates from the end of a long fall until the statistic is below {RULE:,.0f}",
        ["value after the fall", "updates"],
        list(recovery_rows(floor)),
        markdown=markdown,
    )


@click.command()
@click.option("--floor", default=0.1, show_default=True, help="Floor of the null hypothesis.")
@click.option("--runs", default=1000, show_default=True, help="Runs for each number.")
@click.option("--markdown", is_flag=True, help="Print the tables in Markdown.")
def main(floor: float, runs: int, markdown: bool) -> None:
    """Print how long the e-detector runs to a false alarm, and how late it finds a fall."""
    for table in tables(floor, runs, markdown=markdown):
        click.echo(table + "\n")


if __name__ == "__main__":
    main()
