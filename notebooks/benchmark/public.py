"""Public runs of other people: their labels, how they are read, and how the extracts here were taken.

    python notebooks/benchmark/public.py CORPUS      # takes the extracts in public/ from a whole corpus again

A folder of public runs has `runs.parquet`, with one row per update and `case` saying of which run, and `cases.json`,
which says of each case where it is from and what is `expected` of it. The folder `public/` beside this file has
extracts that begin where the run does; a whole corpus has the same two files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import polars as pl

from benchmark.corpus import Corpus
from benchmark.outcomes import Label
from benchmark.plan import SOUND
from esper_analyzer.judging.published_goals import published_goal
from esper_analyzer.judging.task import Task
from esper_schemas.exit_codes import ExitCode

FOLDER = Path(__file__).with_name("public")
"""The extracts."""

PART = "public"

UNKNOWN = "unknown"
"""The environment of a run whose source does not name one."""

TOLERANCE = 3
"""A run whose onset is known must be critical first within so many updates of it."""

DEADLINE = 40
"""A broken run whose onset is not known must be critical by its update of this number."""

LABELS: Mapping[str, tuple[Label, str]] = {
    "healthy": ("sound", "its users or maintainers took it for a success"),
    "published, learned: healthy": ("sound", "a published curve that rises, with a critic that explains at its end"),
    "about the best that slippery ice allows: healthy": ("sound", "chance decides most of a return there"),
    "learned, explained variance 0.9 to 0.995: healthy": ("sound", "return and critic are good to the end"),
    "solved (1000 of 1000): healthy": ("sound", "it has the highest return there is"),
    "solved (497 of 500 at its end): healthy": ("sound", "it has nearly the highest return there is"),
    "critical": ("broken", "its users asked what had gone wrong, and its losses show it"),
    "the critic explains nothing (explained variance 0.02): critical": ("broken", "the critic never learns"),
    "the critic fails late: warning or critical": ("unclear", "either answer is right"),
    "nobody's judgement is known": ("unclear", "nothing to compare an answer with"),
}
"""The label of a run by what `cases.json` says is `expected` of it, and why."""

FIRST_ROWS = 200
"""So many of its first rows are in `public/` of each run, but of those in `LONGER`."""

LONGER: Mapping[str, int] = {"cleanrl_cartpole_solved": 976}
"""Runs that are there with more rows."""


def read(folder: Path = FOLDER) -> Corpus:
    """Read a folder of public runs, with the goals by which they are judged as nobody declared one.

    One whose `expected` is not in `LABELS` is unclear.

    A broken run begins `TOLERANCE` updates before its onset, and has its `deadline` as many after it.

    Raises:
        FileNotFoundError: runs.parquet or cases.json is not there.
    """
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    every = pl.read_parquet(folder / "runs.parquet").sort("case", "update")
    parts = every.partition_by("case", as_dict=True, include_key=False, maintain_order=True)
    rows = {str(name): part for (name,), part in parts.items() if name in cases}
    labels = pl.DataFrame([_label(name, cases[name], part) for name, part in rows.items()], infer_schema_length=None)
    goals = {name: published_goal(Task(env)) for name, env in labels.select("name", "env").iter_rows()}
    return Corpus(labels, rows, {name: goal for name, goal in goals.items() if goal is not None})


def unknown(labels: pl.DataFrame) -> list[str]:
    """What is `expected` of some runs and not in `LABELS`."""
    return sorted(set(labels["expected"]) - set(LABELS))


def _label(name: str, case: Mapping[str, Any], rows: pl.DataFrame) -> dict[str, Any]:
    label, why = LABELS.get(case["expected"], ("unclear", "what is expected of it is not in the table of labels"))
    first, onset = int(rows["update"][0]), case.get("onset")
    is_broken = label == "broken"
    begins = first if onset is None else onset - TOLERANCE
    return {
        "name": name,
        "part": PART,
        "env": case.get("env", UNKNOWN),
        "trainer": case["trainer"],
        "source": case["source"],
        "expected": case["expected"],
        "why": why,
        "kind": name if is_broken else SOUND,
        "label": label,
        "reasons": "",
        "begins": begins if is_broken else 0,
        "deadline": (DEADLINE if onset is None else onset + TOLERANCE) if is_broken else None,
        "is_held_back": False,
        "updates": len(rows),
    }


def extract(corpus: Path, out: Path = FOLDER) -> None:
    """Write the first rows of each run into `out`; runs that the corpus does not have are kept as they are in `out`."""
    cases = json.loads((corpus / "cases.json").read_text(encoding="utf-8"))
    every = pl.read_parquet(corpus / "runs.parquet")
    if (out / "cases.json").exists():
        kept = json.loads((out / "cases.json").read_text(encoding="utf-8"))
        there = pl.read_parquet(out / "runs.parquet").filter(~pl.col("case").is_in(list(cases)))
        cases = {name: case for name, case in kept.items() if name not in cases} | cases
        every = pl.concat([every, there], how="diagonal_relaxed")
    every = every.sort("case", "update")
    whole = dict(every.group_by("case").len().iter_rows())
    taken = {name: min(LONGER.get(name, FIRST_ROWS), whole[name]) for name in cases}
    number = pl.int_range(pl.len()).over("case")
    rows = every.filter(number < pl.col("case").replace_strict(taken, default=0))
    rows = rows.select(name for name in rows.columns if rows[name].null_count() < rows.height)
    described = {name: case | {"rows": taken[name]} for name, case in cases.items()}
    for name, case in described.items():
        case["rows_of_the_run"] = cases[name].get("rows_of_the_run", whole[name])
    out.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(out / "runs.parquet", compression="zstd", compression_level=19)
    (out / "cases.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@click.command()
@click.argument("corpus", metavar="CORPUS", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(corpus: Path) -> None:
    """Take the extracts of public runs from CORPUS again.

    Example: public.py ~/public_runs
    """
    try:
        extract(corpus)
    except (OSError, pl.exceptions.PolarsError, ValueError) as error:
        click.echo(f"public: {error}", err=True)
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    main()
