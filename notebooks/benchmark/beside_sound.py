"""The same runs judged beside sound ones of their task, as `esper-analyze report --reference RUN` does.

    python notebooks/benchmark/beside_sound.py notebooks/benchmark/samples

Each labelled run is judged beside 1, 3 and 5 sound runs of its environment and trainer, drawn by chance, that were not
meant to be broken. Their hyper-parameters differ as those of all sound runs do. Then each is judged beside the runs
whose verdict is healthy, whatever their label, as a folder of runs stands for them (`--reference FOLDER`). Runs that
have fewer such siblings are left out of a row, and the row before it judges the same runs without any. Takes about
seven minutes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np
import polars as pl

from benchmark import public
from benchmark.corpus import Corpus, open_runs, sampled
from benchmark.documents import TITLES
from benchmark.fresh_plan import LOTS, USED_UP
from benchmark.judged import Judged, completed, judged, summed_up
from benchmark.plan import SOUND
from benchmark.rates import Rates, cases
from benchmark.tables import Table, rates_table
from esper_analyzer.judging.reference import ReferenceCourse, ReferenceRun
from esper_analyzer.judging.reference_runs import COLUMNS, reference_from
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.settings import LEAST_OF_FOLDERS
from esper_analyzer.judging.task import NO_TASK
from esper_analyzer.listing.references import MOST_OF_FOLDER
from esper_schemas.errors import UsageError

COUNTS = (1, 3, 5)
"""How many references a run is judged beside."""

OF_REFERENCES = [RULES[name] for name in ReferenceCourse.NAMES if name in RULES]
"""The rules that need references."""

References = Mapping[str, ReferenceRun]


def sound_ones(corpus: Corpus) -> References:
    """The sound runs on which nothing was broken, as references."""
    sound = corpus.labels.filter((pl.col("label") == "sound") & (pl.col("kind") == SOUND))
    return references_of(corpus, sound["name"])


def healthy_ones(corpus: Corpus, alone: Mapping[str, Judged]) -> References:
    """The runs whose verdict is healthy in the end, as references: sound, broken and unclear ones."""
    return references_of(corpus, (name for name in corpus.labels["name"] if alone[name].last == "healthy"))


def references_of(corpus: Corpus, names: Iterable[str]) -> References:
    """These runs as references by name; not those that measured too little."""
    found: dict[str, ReferenceRun] = {}
    for name in names:
        try:
            found[name] = reference_from(completed(corpus.rows[name], COLUMNS), name, NO_TASK)
        except UsageError:
            continue
    return found


def siblings(
    corpus: Corpus, references: References, least: int, most: int | None = None
) -> dict[str, list[ReferenceRun]]:
    """For each labelled run references of its environment and trainer, drawn by chance and without itself.

    Args:
        corpus, references: the runs, and those that are references.
        least: how many it needs.
        most: how many it gets, if there are so many; as many as it needs by default.
    """
    pools: dict[tuple[str, str], list[str]] = {}
    for name, *task in corpus.labels.select("name", "env", "trainer").iter_rows():
        if name in references and task[0] != public.UNKNOWN:
            pools.setdefault((task[0], task[1]), []).append(name)
    drawn = {}
    for name, *task in corpus.labels.filter(pl.col("label") != "unclear").select("name", "env", "trainer").iter_rows():
        others = [one for one in pools.get((task[0], task[1]), ()) if one != name]
        count = min(least if most is None else most, len(others))
        if count >= least:
            drawn[name] = [references[one] for one in random.Random(f"{name} {count}").sample(others, count)]
    return drawn


def beside(rows: pl.DataFrame, alone: Judged, references: list[ReferenceRun]) -> Judged:
    """What is said of a run with these `rows` beside `references`, if `alone` is what was said without any."""
    added = judged(rows, OF_REFERENCES, references=references)
    severities = np.maximum(alone.severities, added.severities)
    last = added.last if added.last == "critical" or alone.last == "healthy" != added.last else alone.last
    return summed_up(rows, severities, last, (*alone.rules, *added.rules), (*alone.last_rules, *added.last_rules))


def beside_table(corpus: Corpus, groups: Mapping[str, Collection[str]]) -> Table:
    """The rates of the runs in each of `groups` that have enough siblings in `corpus`, without references and with."""
    alone = corpus.judged()
    sound, healthy = sound_ones(corpus), healthy_ones(corpus, alone)
    ways = {str(count): siblings(corpus, sound, count) for count in COUNTS}
    ways["all that are healthy"] = siblings(corpus, healthy, LEAST_OF_FOLDERS, MOST_OF_FOLDER)
    named: dict[str, Rates] = {}
    for way, drawn in ways.items():
        with_them = {name: beside(corpus.rows[name], alone[name], of_run) for name, of_run in drawn.items()}
        for group, runs in groups.items():
            labels = corpus.labels.filter(pl.col("name").is_in({*drawn} & {*runs}))
            needed = way if way.isdecimal() else f"{LEAST_OF_FOLDERS} that are healthy"
            named[f"{group} that have {needed}, alone"] = Rates.of(cases(alone, labels))
            named[f"{group}, beside {way}"] = Rates.of(cases(with_them, labels))
    return rates_table("beside", "Beside sound runs of their environment and trainer", named)


@click.command()
@click.argument("out", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
def main(out: Path, markdown: bool) -> None:
    """Print what is found beside sound runs, of the runs that sample.py put into FOLDER.

    Example: beside_sound.py notebooks/benchmark/samples
    """
    old, newest = open_runs(out), {lot: sampled(out, lot) for lot in LOTS if lot not in USED_UP}
    published = public.read()
    every = reduce(Corpus.together, [*newest.values(), published], old)
    groups = {
        "open runs": [*old.rows],
        **{TITLES[lot].lower(): [*runs.rows] for lot, runs in newest.items()},
        "published runs": [*published.rows],
        "RLMutation": every.labels.filter(pl.col("part") == "rlmutation")["name"].to_list(),
    }
    table = beside_table(every, groups)
    click.echo(table.markdown() if markdown else table.text())


if __name__ == "__main__":
    main()
