"""Judges everything and writes results.json, which the documents are made from: small, and with a line for each run.

    python notebooks/benchmark/results.py notebooks/benchmark/samples
    python notebooks/benchmark/results.py notebooks/benchmark/samples --rivals      # and the tools that are installed
    python notebooks/benchmark/results.py notebooks/benchmark/samples --fresh       # the newest lot of fresh runs alone

What a call does not judge stays as it was in the file: the rows of other tools, the fresh runs, and older lots.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import polars as pl

from benchmark import judge, public, thresholds
from benchmark.corpus import Corpus
from benchmark.fresh_plan import LOTS, USED_UP
from benchmark.outcomes import LABELS, OPEN_FOLDERS
from benchmark.rates import cases
from benchmark.rivals import RIVALS, Rival
from benchmark.tables import Table
from esper_schemas.errors import EsperError
from esper_schemas.exit_codes import ExitCode

FILE = Path(__file__).with_name("results.json")
FORMAT = "esper-benchmark-results/2"

DISTRIBUTIONS = ("esper-recorder", "numpy", "polars", "torch", "gymnasium", "stable-baselines3")
"""Whose versions are noted: those that judge, and those that the runs were sampled with."""

SCHEMA: Mapping[str, Any] = {
    "name": pl.String,
    "part": pl.String,
    "env": pl.String,
    "trainer": pl.String,
    "kind": pl.String,
    "source": pl.String,
    "label": pl.String,
    "reasons": pl.String,
    "begins": pl.Int64,
    "deadline": pl.Int64,
    "rows": pl.Int64,
    "first_warning": pl.Int64,
    "first_critical": pl.Int64,
    "rules": pl.String,
    "last": pl.String,
    "last_rules": pl.String,
    "false_alarm": pl.Boolean,
    "watched": pl.Int64,
    "found": pl.Int64,
    "delay": pl.Int64,
    "delay_steps": pl.Float64,
}
"""What is kept of each run: its label and what came of it, as `rates.cases` has them."""

Tables = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """The results on runs that were judged together.

    Attributes:
        judged: Date.
        sampled: `date` at which the newest batch was sampled, `batches`, and the `sha256` of all of them.
        versions: Of Python and `DISTRIBUTIONS`.
        counts: `runs`, `updates`, and the runs of each label.
        tables: By key, the rows of each; see `Table.records`.
        runs: One row each, as in `SCHEMA`.
    """

    judged: str
    sampled: Mapping[str, Any]
    versions: Mapping[str, str]
    counts: Mapping[str, int]
    tables: Tables
    runs: pl.DataFrame

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Section:
        """The section that `to_json` gave."""
        table = read["runs"]
        runs = pl.DataFrame(table["rows"], schema={name: SCHEMA[name] for name in table["columns"]}, orient="row")
        return cls(**{**read, "runs": runs})

    def to_json(self) -> dict[str, Any]:
        """The section as plain values."""
        runs = {"columns": self.runs.columns, "rows": self.runs.rows()}
        kept = ("judged", "sampled", "versions", "counts", "tables")
        return {name: getattr(self, name) for name in kept} | {"runs": runs}


@dataclass(frozen=True, kw_only=True)
class Results:
    """The whole file: the open runs, and the lots of fresh ones.

    Attributes:
        open: The runs that the rules were made with.
        lots: By folder, in the order of `LOTS`, those that were judged: each once, with the rules of its day.
    """

    open: Section
    lots: Mapping[str, Section] = field(default_factory=dict)

    @property
    def newest_lot(self) -> str | None:
        """Folder of the newest lot that judged the rules; None before one did."""
        return next((name for name in reversed(LOTS) if name in self.lots), None)

    @property
    def newest(self) -> Section | None:
        """What the newest lot that judged the rules said of them; None before one did."""
        return None if self.newest_lot is None else self.lots[self.newest_lot]

    def write(self, path: Path = FILE) -> None:
        """Write the file; rows of tables and runs have a line each."""
        lots = {name: section.to_json() for name, section in self.lots.items()}
        whole = {"format": FORMAT, "open": self.open.to_json(), **lots}
        path.write_text(_dumped(whole) + "\n", encoding="utf-8")


def read(path: Path = FILE) -> Results:
    """Read a file of results.

    Raises:
        ValueError: it is of another format.
    """
    whole = json.loads(path.read_text(encoding="utf-8"))
    if whole.get("format") != FORMAT:
        raise ValueError(f"{path} is {whole.get('format')!r}; {FORMAT} was expected")
    lots = {name: Section.from_json(whole[name]) for name in LOTS if name in whole}
    return Results(open=Section.from_json(whole["open"]), lots=lots)


def runs_of(found: pl.DataFrame) -> pl.DataFrame:
    """What is kept of `found`, which `rates.cases` returned, in the order of the names."""
    columns = [
        (pl.col(name) if name in found.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in SCHEMA.items()
    ]
    return found.select(columns).sort("name")


def tool_tables(made: Iterable[Table], before: Tables) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The rows of `made`, as `judge.rivals_tables` yields them, and those of tools that were not judged this time."""
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    order = ["Esper", *(rival.name for rival in RIVALS)]
    for table in made:
        if table.key != "tools_alarms":  # which follows from the others
            new = {row["group"]: row for row in table.records}
            old = {row["group"]: row for row in before.get(table.key, ()) if row["group"] in order}
            tables[table.key] = sorted((old | new).values(), key=lambda row: order.index(row["group"]))
    return tables


def judged_section(
    samples: Corpus,
    corpus: Corpus,
    folders: Sequence[Path],
    rivals: Sequence[Rival],
    before: Section | None,
    for_rivals: Corpus | None = None,
) -> Section:
    """Judge everything that the documents show.

    Args:
        samples: The sampled runs.
        corpus: The same and public runs.
        folders: The batches of the sampled runs.
        rivals: Other tools that judge as well, if they are installed.
        before: The section that this one takes the place of.
        for_rivals: The runs that they judge, if not all of them.
    """
    found = runs_of(cases(corpus.judged(), corpus.labels))
    tables = {table.key: table.records for table in judge.main_tables(found)}
    for_rivals = corpus if for_rivals is None else for_rivals
    shared = found.filter(pl.col("name").is_in([*for_rivals.rows]))
    tables |= tool_tables(judge.rivals_tables(shared, for_rivals, rivals), {} if before is None else before.tables)
    goals = judge.goals_table(samples)
    tables[goals.key] = goals.records
    telemetry = judge.telemetry_table(samples)
    tables[telemetry.key] = telemetry.records
    of_label = {label: int((found["label"] == label).sum()) for label in LABELS}
    return Section(
        judged=date.today().isoformat(),
        sampled=sampled_when(folders, before),
        versions={"python": platform.python_version()} | {name: version(name) for name in DISTRIBUTIONS},
        counts={"runs": len(found), "updates": int(found["rows"].sum())} | of_label,
        tables=tables,
        runs=found,
    )


def open_section(out: Path, rivals: Sequence[Rival], before: Section | None) -> Section:
    """Judge the open runs in `out`, and public ones; the arguments are as in `judged_section`.

    Other tools take half an hour for those that were open first and public ones, and judge no others.
    """
    samples, corpus = judge.read_corpora(out, public.FOLDER)
    _, first = judge.read_corpora(out, public.FOLDER, OPEN_FOLDERS[0])
    section = judged_section(samples, corpus, [out / folder for folder in OPEN_FOLDERS], rivals, before, first)
    left_out = thresholds.left_out_table(corpus, thresholds.reached_by(corpus))
    return replace(section, tables={**section.tables, left_out.key: left_out.records})


def fresh_section(out: Path, rivals: Sequence[Rival], before: Section | None) -> Section:
    """Judge the newest lot of fresh runs in `out`, with the rules as they are."""
    samples, corpus = judge.read_corpora(out, None, LOTS[-1])
    return judged_section(samples, corpus, [out / LOTS[-1]], rivals, before)


def sampled_when(folders: Sequence[Path], before: Section | None) -> dict[str, Any]:
    """When the batches in `folders` were sampled: as it says in `before` if they are the same, else by their files."""
    paths = [path for folder in folders for path in sorted(folder.glob("*.parquet"))]
    digest = hashlib.sha256()
    for path in (each for batch in paths for each in (batch, batch.with_suffix(".runs.jsonl"))):
        digest.update(path.read_bytes())
    if before is not None and before.sampled["sha256"] == digest.hexdigest():
        return dict(before.sampled)
    newest = datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)
    return {"date": newest.date().isoformat(), "batches": len(paths), "sha256": digest.hexdigest()}


def _dumped(value: Any, indent: str = "") -> str:
    """JSON with a line for each key and for each element of a list."""
    deeper = indent + " "
    if value and isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_dumped(child, deeper)}" for key, child in value.items()]
        return f"{{\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}}}"
    if value and isinstance(value, list | tuple):
        lines = [json.dumps(rounded(child), ensure_ascii=False, allow_nan=False) for child in value]
        return f"[\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def rounded(value: Any) -> Any:
    """`value` with its floats to six decimals, and lists in place of tuples."""
    if isinstance(value, Mapping):
        return {key: rounded(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(child) for child in value]
    return round(value, 6) if isinstance(value, float) else value


@click.command()
@click.argument("out", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--rivals", is_flag=True, help="Judge with the other tools that are installed, too; takes long.")
@click.option("--fresh", is_flag=True, help="Judge the newest lot of fresh runs, and nothing else.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    default=FILE,
    help="Write another file than results.json.",
)
def main(out: Path, rivals: bool, fresh: bool, to: Path) -> None:
    """Judge the runs that sample.py put into FOLDER and public ones, and write results.json.

    Example: results.py notebooks/benchmark/samples
    """
    tools = RIVALS if rivals else ()
    for rival in tools:
        if not rival.is_installed:
            click.echo(f"results: {rival.name} is not installed, its rows stay; see rivals.txt", err=True)
    try:
        before = read(to) if to.exists() else None
        if fresh:
            if before is None:
                raise ValueError(f"{to} is not there yet; judge the other runs first")
            if LOTS[-1] in before.lots and LOTS[-1] in USED_UP:
                raise ValueError(f"{LOTS[-1]} has judged older rules, once; the rules of today need another plan")
            newest = fresh_section(out, tools, before.lots.get(LOTS[-1]))
            results = replace(before, lots={**before.lots, LOTS[-1]: newest})
        else:
            section = open_section(out, tools, None if before is None else before.open)
            results = Results(open=section, lots={} if before is None else before.lots)
    except (EsperError, OSError, ValueError, pl.exceptions.PolarsError) as error:
        click.echo(f"results: {error}", err=True)
        sys.exit(ExitCode.USAGE)
    results.write(to)
    click.echo(f"{to}: {results.open.counts['runs']} runs")


if __name__ == "__main__":
    main()
