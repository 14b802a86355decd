"""Labels by outcome: whether a run was sound or broken, decided by what it achieved beside its control.

    python notebooks/benchmark/outcomes.py FOLDER      # labels of what sample.py put there, counted

What was *done* to a run does not decide. Its outcome does, beside that of its *control*: the sound runs of the same
environment and trainer, at the same age in environment steps. All bounds are below and in `environments.py`; they
were written down before any verdict was looked at, and know nothing of the analyzer's rules.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmark.environments import Task
from benchmark.fresh_environments import EVERY_TASK
from benchmark.fresh_faults import EVERY_KIND
from benchmark.fresh_plan import LOTS, USED_UP
from benchmark.large_plan import LARGE
from benchmark.plan import SOUND
from benchmark.storage import has_batches, read_rows, read_runs

LAST_SHARE = 0.2
"""Share of a run's environment steps that its outcome is taken from: late enough to be the outcome, long enough to
have some episodes."""

MIN_UPDATES = 5
"""Fewer updates than this decide nothing about a critic, and are too few to say that a run ends without numbers."""

MIN_SPREAD = 0.1
"""There is something to explain where returns vary by this share of their mean. Below, a solved task leaves noise."""

MIN_CONTROLS = 3
"""With fewer sound runs of that age there is no control, and bounds that need one are not judged."""

CONTROL_MARGIN = 0.2
"""A critic fails only if its control explains so much more than `critic_floor`: else noise or the clip of the value
loss keeps sound critics there, too."""

EXPLOSION = 1000.0
"""A value loss so many times that of the control has exploded: sound runs of one environment and trainer differ by a
factor of ten, those with rewards that are scaled in one and not in the other by a hundred."""

RLMUTATION_BOUND = 250.0
"""Mean return of ten deterministic episodes of CartPole-v1, below which a run of the part "rlmutation" is broken."""

FOLDERS = ("batches", "held_back", *LOTS, LARGE)
"""Of the samples: those that were open first, those that were held back first, the lots of fresh ones, and those of
large rollouts."""

OPEN_FOLDERS = ("batches", "held_back", *(lot for lot in LOTS if lot in USED_UP), LARGE)
"""Those whose runs rules are made with: each part that judged rules, once, joined them when a rule was changed."""

Label = Literal["sound", "broken", "unclear"]
ReturnOutcome = Literal["learned", "between", "failed", "no control", "not judged"]
CriticOutcome = Literal["explains", "fails", "not judged"]

LABELS: tuple[Label, ...] = ("sound", "broken", "unclear")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a run achieved in its last fifth, or had achieved at some age.

    Attributes:
        final_return: Mean return of the episodes that ended, as the environment paid it; None if none ended.
        explained: Median explained variance where there was something to explain; None for fewer than `MIN_UPDATES`.
        value_loss: Median value loss.
        is_finite: Whether the last losses are finite, and not all of the last updates were skipped.
        is_idle: Whether every policy loss is exactly 0.
    """

    final_return: float | None
    explained: float | None
    value_loss: float
    is_finite: bool = True
    is_idle: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The label of a run, and what it follows from; `reasons` are those for which it is broken."""

    label: Label
    reasons: tuple[str, ...]
    of_return: ReturnOutcome
    of_critic: CriticOutcome


# ---------------------------------------------------------------------- facts


class RunRows:
    """The columns of one run that decide its outcome, as arrays; what is missing is NaN."""

    NAMES = (
        "env_steps",
        "own_return",
        "own_episodes",
        "explained_variance",
        "return_std",
        "return_mean",
        "value_loss",
        "policy_loss",
        "skipped",
    )

    def __init__(self, rows: pl.DataFrame) -> None:
        # All at once: a query for each column of each run would take most of the time that labels take.
        numbers = rows.select(pl.col(self.NAMES).cast(pl.Float64).fill_null(math.nan))
        self.columns: dict[str, NDArray[np.float64]] = {name: numbers[name].to_numpy() for name in self.NAMES}
        self.is_missing = rows["explained_variance"].is_null().to_numpy()
        self.last_update = int(rows["update"][-1]) if len(rows) else -1
        steps = self.columns["env_steps"]
        self.steps = float(np.nanmax(steps)) if np.isfinite(steps).any() else 0.0

    def facts(self, age: float) -> Facts:
        """What the run had achieved after `age` environment steps."""
        steps = self.columns["env_steps"]
        window = (steps > (1 - LAST_SHARE) * age) & (steps <= age)
        of = {name: column[window] for name, column in self.columns.items()}
        ended = of["own_episodes"] > 0
        episodes = of["own_episodes"][ended]
        paid = float((of["own_return"][ended] * episodes).sum() / episodes.sum()) if ended.any() else None
        has_spread = of["return_std"] >= MIN_SPREAD * np.abs(of["return_mean"])
        explained = np.nan_to_num(of["explained_variance"][has_spread & ~self.is_missing[window]], nan=-math.inf)
        last = {name: column[steps <= age][-MIN_UPDATES:] for name, column in self.columns.items()}
        losses = np.concatenate((last["value_loss"], last["policy_loss"]))
        is_skipping = bool((last["skipped"] == 1).all())
        return Facts(
            final_return=paid,
            explained=float(np.median(explained)) if len(explained) >= MIN_UPDATES else None,
            value_loss=float(np.median(of["value_loss"])) if window.any() else math.nan,
            is_finite=bool(np.isfinite(losses).all()) and not is_skipping,
            is_idle=bool(window.any() and (of["policy_loss"] == 0).all()),
        )


def control_facts(controls: Sequence[RunRows], age: float) -> Facts | None:
    """Medians of what the sound runs had achieved at `age`; those that ended before half of it do not count."""
    found = [control.facts(min(age, control.steps)) for control in controls if control.steps >= age / 2]
    if len(found) < MIN_CONTROLS:
        return None
    returns = [facts.final_return for facts in found if facts.final_return is not None]
    explained = [facts.explained for facts in found if facts.explained is not None]
    return Facts(
        final_return=float(np.median(returns)) if len(returns) >= MIN_CONTROLS else None,
        explained=float(np.median(explained)) if len(explained) >= MIN_CONTROLS else None,
        value_loss=float(np.median([facts.value_loss for facts in found])),
    )


# ---------------------------------------------------------------------- labels


def return_outcome(task: Task, facts: Facts, control: Facts | None) -> ReturnOutcome:
    """Whether the task was learned; a run fails only at an age at which its control has learned."""
    if task.learned is None or task.failed is None:
        return "not judged"
    if facts.final_return is not None and facts.final_return >= task.learned:
        return "learned"
    if control is None or control.final_return is None:
        return "no control"
    if facts.final_return is None or control.final_return < task.learned:
        return "not judged"
    return "failed" if facts.final_return < task.failed else "between"


def critic_outcome(task: Task, facts: Facts, control: Facts | None) -> CriticOutcome:
    """Whether the critic explains what there is to explain, and its control does."""
    floor = task.critic_floor
    if floor is None or facts.explained is None:
        return "not judged"
    if facts.explained >= floor:
        return "explains"
    explains = control is not None and control.explained is not None and control.explained >= floor + CONTROL_MARGIN
    return "fails" if explains else "not judged"


def outcome_of(task: Task, kind: str, facts: Facts, control: Facts | None, *, has_crashed: bool = False) -> Outcome:
    """The label of a run of the part "main"; `has_crashed` says that an exception ended it.

    Broken is a run that ends without finite losses, or crashes after its value loss exploded, whose return fails, or
    whose critic fails while the return has not been learned. Sound is a run that learned and shows nothing else, or on
    which nothing was broken and which is where its control is. Everything else is unclear, and enters no rate: above
    all a fault that can be seen, under which the task was learned all the same, a run that has not learned and has no
    control as old, and a run that crashed before its rows showed why, which needs no verdict.
    """
    of_return = return_outcome(task, facts, control)
    of_critic = critic_outcome(task, facts, control)
    has_learned = of_return == "learned"
    has_exploded = control is not None and facts.value_loss > EXPLOSION * control.value_loss
    reasons = {
        "not finite": not facts.is_finite or (has_crashed and has_exploded),
        "return": of_return == "failed",
        "critic": of_critic == "fails" and not has_learned and kind != SOUND,
    }
    if found := tuple(name for name, is_so in reasons.items() if is_so):
        return Outcome(label="broken", reasons=found, of_return=of_return, of_critic=of_critic)
    if has_crashed:
        is_sound = False
    elif kind == SOUND:
        is_sound = has_learned or (of_return == "not judged" and of_critic != "fails")
    else:
        is_hidden = EVERY_KIND[kind].area == "critic" and of_critic != "explains"
        is_sound = has_learned and of_critic != "fails" and not (has_exploded or facts.is_idle or is_hidden)
    return Outcome(label="sound" if is_sound else "unclear", reasons=(), of_return=of_return, of_critic=of_critic)


def rlmutation_outcome(evaluation: float | None) -> Outcome:
    """The label of a run of the part "rlmutation", by its own final evaluation; without one it crashed."""
    if evaluation is None:
        return Outcome(label="broken", reasons=("not finite",), of_return="not judged", of_critic="not judged")
    is_sound = evaluation >= RLMUTATION_BOUND
    return Outcome(
        label="sound" if is_sound else "broken",
        reasons=() if is_sound else ("return",),
        of_return="learned" if is_sound else "failed",
        of_critic="not judged",
    )


def label_runs(
    runs: Sequence[Mapping[str, Any]], rows: pl.DataFrame, controls: Sequence[Mapping[str, Any]] = ()
) -> pl.DataFrame:
    """The label of every run.

    Args:
        runs: As `storage.read_runs` gives them.
        rows: Of these runs and of `controls`, as `storage.read_rows` gives them.
        controls: Runs whose sound ones are controls, too, as those among `runs` are.

    Returns:
        One row each, ordered by run: what the plan says of it, what it and its control achieved, `of_return`,
        `of_critic`, `label`, and `reasons` separated by commas.
    """
    cells: dict[tuple[str, str], list[int]] = {(run["env"], run["trainer"]): [] for run in runs}
    for run in (*controls, *runs):
        if run["kind"] == SOUND and run["part"] == "main" and (run["env"], run["trainer"]) in cells:
            cells[run["env"], run["trainer"]].append(run["run"])
    needed = {run["run"] for run in runs}.union(*cells.values())
    of_run = dict.fromkeys(needed, RunRows(rows.clear()))  # a run that crashed at once has no rows
    of_needed = rows.filter(pl.col("run").is_in(needed)).partition_by("run")
    of_run |= {int(part["run"][0]): RunRows(part) for part in of_needed}
    records: list[dict[str, Any]] = []
    for run in runs:
        own = of_run[run["run"]]
        facts = own.facts(own.steps)
        others = [of_run[number] for number in cells[run["env"], run["trainer"]] if number != run["run"]]
        control = control_facts(others, own.steps)
        has_crashed = run["ended"] == "failed"
        if has_crashed and own.last_update < run["begins"]:  # before a row could show why
            outcome = Outcome(label="unclear", reasons=(), of_return="not judged", of_critic="not judged")
        elif run["part"] == "rlmutation":
            outcome = rlmutation_outcome(run["evaluation"])
        else:
            outcome = outcome_of(EVERY_TASK[run["env"]], run["kind"], facts, control, has_crashed=has_crashed)
        kept = ("run", "name", "part", "env", "trainer", "kind", "is_held_back", "updates", "begins", "ended")
        records.append(
            {name: run[name] for name in kept}
            | {
                "area": SOUND if run["kind"] == SOUND else EVERY_KIND[run["kind"]].area,
                "final_return": facts.final_return,
                "control_return": None if control is None else control.final_return,
                "explained": facts.explained,
                "control_explained": None if control is None else control.explained,
                "evaluation": run["evaluation"],
                "of_return": outcome.of_return,
                "of_critic": outcome.of_critic,
                "label": outcome.label,
                "reasons": ", ".join(outcome.reasons),
            }
        )
    return pl.DataFrame(records, infer_schema_length=None).sort("run")


def label_folder(out: Path, folder: str = "batches") -> pl.DataFrame:
    """The labels of the runs in one folder of `out`; controls are its sound runs, and those of folders before it.

    Runs of large rollouts have only each other: others have made many more updates at the same age in steps.
    """
    before = () if folder == LARGE else FOLDERS[: FOLDERS.index(folder)]
    read = [name for name in (*before, folder) if has_batches(out / name)]
    runs = {name: read_runs(out / name) for name in read}
    rows = pl.concat([read_rows(out / name).collect() for name in read])
    return label_runs(runs[folder], rows, [run for name in read[:-1] for run in runs[name]])


def summary(labels: pl.DataFrame, *by: str) -> pl.DataFrame:
    """How many runs of each group of `by` have which label, and why they are broken."""
    return (
        labels.group_by(by)
        .agg(
            pl.len().alias("runs"),
            *((pl.col("label") == label).sum().alias(label) for label in LABELS),
            *(pl.col("reasons").str.contains(why).sum().alias(why) for why in ("return", "critic", "not finite")),
        )
        .sort(by)
    )


@click.command()
@click.argument("out", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--of", "folder", type=click.Choice(FOLDERS), default=FOLDERS[0], show_default=True, help="Which runs.")
def main(out: Path, folder: str) -> None:
    """Count the labels of the runs that sample.py put into FOLDER.

    Example: outcomes.py notebooks/benchmark/samples
    """
    if not has_batches(out / folder):
        click.echo(f"outcomes: {out / folder} has no finished batch; sample.py makes them", err=True)
        sys.exit(2)
    labels = label_folder(out, folder)
    is_sound = pl.col("kind") == SOUND
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True
    ):
        click.echo(summary(labels.filter(is_sound), "part", "env", "trainer"))
        click.echo(summary(labels.filter(~is_sound), "part", "area", "kind"))
        click.echo(summary(labels, "part"))


if __name__ == "__main__":
    main()
