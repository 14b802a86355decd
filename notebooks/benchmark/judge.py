"""Judges the sampled runs, and public ones, beside their labels: false alarms and detections.

python notebooks/benchmark/judge.py notebooks/benchmark/samples --misses
python notebooks/benchmark/judge.py notebooks/benchmark/samples --telemetry --rivals --markdown
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import polars as pl

from benchmark import public
from benchmark.corpus import Corpus, open_runs, sampled
from benchmark.outcomes import FOLDERS
from benchmark.rates import Rates, cases, rates
from benchmark.rivals import RIVALS, Rival
from benchmark.storage import has_batches
from benchmark.tables import (
    ALL,
    Table,
    alarms_table,
    by_reason,
    grouped,
    levels_table,
    list_table,
    rates_table,
    rules_table,
)
from benchmark.telemetry import SETS, SLIDING, with_sliding_means
from esper_schemas.errors import EsperError, UsageError
from esper_schemas.exit_codes import ExitCode

OPEN = "open"
"""What the runs are called that rules are made with."""

FALSE = ("name", "label", "begins", "rows", "first_critical", "rules", "last", "last_rules")
MISSED = ("name", "reasons", "begins", "deadline", "rows", "first_warning", "first_critical", "last", "last_rules")


def main_tables(found: pl.DataFrame) -> Iterator[Table]:
    """What is said of the runs in `found`, as `rates.cases` returns them."""
    of_samples = found.filter(pl.col("part") != public.PART)
    of_public = found.filter(pl.col("part") == public.PART)
    parts = grouped(found, "part", total=True)
    yield rates_table("parts", "All runs, by part", parts)
    yield alarms_table("alarms", "False alarms of sound runs, and of broken ones before they broke", parts)
    yield levels_table("levels", "What a warning is worth: all runs, by their verdict", found)
    yield rates_table("environments", "Sampled runs, by environment", grouped(of_samples, "env"))
    yield rates_table("trainers", "Sampled runs, by trainer", grouped(of_samples, "trainer"))
    yield rates_table("kinds", "Sampled runs, by what was done to them", grouped(of_samples, "kind"))
    yield rates_table("reasons", "Broken sampled runs, by what failed", by_reason(of_samples))
    if len(of_public):
        yield rates_table("sources", "Public runs, by source", grouped(of_public, "source"))
    yield rules_table("rules", "What made a run critical first", found)


def miss_tables(found: pl.DataFrame) -> Iterator[Table]:
    """Every run that was judged wrongly, with its rules."""
    wrong = found.filter("false_alarm")
    missed = found.filter((pl.col("label") == "broken") & pl.col("found").is_null())
    yield list_table("false", "Critical, though sound or not yet broken", wrong, FALSE)
    yield list_table("missed", "Broken and not found", missed, MISSED)


def goals_table(corpus: Corpus) -> Table:
    """The counts of the runs that know a goal, with it and without: by environment, and those of RLMutation."""
    known = corpus.knowing_goals()
    found = {"with": known, "without": known.without_goals()}
    told = {word: cases(one.judged(), known.labels) for word, one in found.items()}
    groups = [("env", env) for env in sorted(known.labels["env"].unique())] + [("part", "rlmutation")]
    named = {
        f"{name}, {word}": Rates.of(judged.filter(pl.col(column) == name))
        for column, name in groups
        for word, judged in told.items()
    }
    return rates_table("goals", "Sampled runs that know a goal of the return, with it and without", named)


def telemetry_table(corpus: Corpus) -> Table:
    """The counts of sampled runs of which less and less is recorded."""
    named = {name: rates(corpus.keeping(columns).judged(), corpus.labels) for name, columns in SETS.items()}
    sliding = replace(corpus, rows={name: with_sliding_means(rows) for name, rows in corpus.rows.items()})
    named[SLIDING] = rates(sliding.judged(), corpus.labels)
    return rates_table("telemetry", "Sampled runs, by what is recorded of them", named)


def rivals_tables(found: pl.DataFrame, corpus: Corpus, rivals: Sequence[Rival]) -> Iterator[Table]:
    """The counts of each of `rivals` that is installed on the same runs, for each part, below those of Esper."""
    named = {"Esper": found} | {
        rival.name: cases(corpus.judged(rival.judged), corpus.labels) for rival in rivals if rival.is_installed
    }
    for part in (*sorted(found["part"].unique()), ALL):
        of_part = {name: one if part == ALL else one.filter(pl.col("part") == part) for name, one in named.items()}
        counts = {name: Rates.of(one) for name, one in of_part.items()}
        yield rates_table(f"tools_{part}", f"Tools side by side, {part}", counts)
    yield alarms_table(
        "tools_alarms", "False alarms of the tools", {name: Rates.of(one) for name, one in named.items()}
    )


def as_json(tables: Iterable[Table], found: pl.DataFrame, of: str) -> str:
    """Everything as one JSON document; intervals are [estimate, low, high] and null where there is none."""
    said = {table.key: table.records for table in tables}
    whole = {"format": "esper-benchmark/1", "of": of, "tables": said, "runs": found.to_dicts()}
    return json.dumps(json.loads(json.dumps(whole), parse_constant=lambda _: None), indent=1, allow_nan=False)


def read_corpora(out: Path, public_folder: Path | None, of: str = OPEN) -> tuple[Corpus, Corpus]:
    """The open sampled runs, or those in the folder `of`, alone, and with the public ones in `public_folder`, if any.

    Raises:
        UsageError: one of the folders does not have what is read.
    """
    folder = out / (FOLDERS[0] if of == OPEN else of)
    if not has_batches(folder):
        raise UsageError(f"{folder} has no finished batch; sample.py makes them")
    samples = open_runs(out) if of == OPEN else sampled(out, of)
    if public_folder is None:
        return samples, samples
    for needed in ("runs.parquet", "cases.json"):
        if not (public_folder / needed).is_file():
            raise UsageError(
                f"{public_folder} has no {needed}; a folder of public runs has runs.parquet and cases.json"
            )
    others = public.read(public_folder)
    for text in public.unknown(others.labels):
        click.echo(f"judge: public.LABELS does not say what {text!r} means; such runs are unclear", err=True)
    return samples, samples.together(others)


@click.command()
@click.argument("out", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--public",
    "public_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=public.FOLDER,
    help="Folder of public runs, in place of the extracts that come with the benchmark.",
)
@click.option("--no-public", is_flag=True, help="Only what sample.py made.")
@click.option("--of", type=click.Choice((OPEN, *FOLDERS)), default=OPEN, show_default=True, help="Which of them.")
@click.option("--misses", is_flag=True, help="List every missed and every falsely critical run.")
@click.option("--goals", is_flag=True, help="Judge runs that know a goal without it, too.")
@click.option("--telemetry", is_flag=True, help="Judge with less and less recorded, too; takes five times longer.")
@click.option("--rivals", is_flag=True, help="Judge with the other tools that are installed, too; takes long.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
def main(
    out: Path,
    public_folder: Path,
    no_public: bool,
    of: str,
    misses: bool,
    goals: bool,
    telemetry: bool,
    rivals: bool,
    form: str | None,
) -> None:
    """Judge the runs that sample.py put into FOLDER, and public ones.

    Example: judge.py notebooks/benchmark/samples --misses
    """
    try:
        samples, corpus = read_corpora(out, None if no_public else public_folder, of)
        found = cases(corpus.judged(), corpus.labels)
        tables = [*main_tables(found)]
        tables += miss_tables(found) if misses or form == "json" else ()
        tables += [goals_table(samples)] if goals else []
        tables += [telemetry_table(samples)] if telemetry else []
        if rivals:
            for rival in RIVALS:
                if not rival.is_installed:
                    click.echo(f"judge: {rival.name} is not installed; see notebooks/benchmark/rivals.txt", err=True)
            tables += rivals_tables(found, corpus, RIVALS)
    except (EsperError, OSError, ValueError, pl.exceptions.PolarsError) as error:
        click.echo(f"judge: {error}", err=True)
        sys.exit(ExitCode.USAGE)
    if form == "json":
        click.echo(as_json(tables, found, of))
        return
    for table in tables:
        click.echo(table.markdown() if form == "markdown" else table.text())


if __name__ == "__main__":
    main()
