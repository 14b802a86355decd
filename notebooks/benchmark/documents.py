"""Writes what the READMEs say of the results, from results.json, between two comments in each of them.

python notebooks/benchmark/documents.py
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import polars as pl

from benchmark import judge, plan, public
from benchmark.rates import Interval, Rates
from benchmark.results import Results, Section, read
from benchmark.tables import ALL, Table, counted, rates_table
from esper_schemas.exit_codes import ExitCode

PROJECT = Path(__file__).parents[2]

BEGIN = "<!-- Made from results.json by `make benchmark-tables`. -->"
END = "<!-- The end of what was made. -->"

TRAINERS: Mapping[str, str] = {
    "ours": "built-in trainer",
    "sb3": "Stable-Baselines3",
    "cleanrl": "PPO in CleanRL's style",
}
"""The trainers that runs were sampled from, as the project's README calls them."""

REASONS: Mapping[str, str] = {"critic": "the critic fails", "return": "the return fails"}

HEADS = ("runs", "sound, ever critical", "false alarms per 100,000 updates", "broken, found", "median delay, updates")

FEW = 4
"""So many of the worst are named."""


def project_block(results: Results) -> str:
    """What the project's README says of the results."""
    lines = [_row(HEADS), _row(["---"] * len(HEADS)), *(_row(cells) for cells in _main_rows(results))]
    prose = [_by_trainer(results.open), _less_telemetry(results.open), *_worst(results.open)]
    if results.held_back is None:
        environments, kinds = len(plan.HELD_BACK_ENVIRONMENTS), len(plan.HELD_BACK_KINDS)
        prose.append(
            f"Still to come: runs of {environments} environments and {kinds} kinds are held back and unjudged."
        )
    listed = [_filled(f"- {text}", 100, "  ") for text in prose]
    return "\n".join([_filled(_measured(results.open), 100), "", *lines, "", *listed])


def benchmark_block(results: Results) -> str:
    """What the benchmark's README says of the results: where they come from, and every table."""
    parts = [_filled(_origin(results.open), 100), ""]
    parts += [table.markdown() for table in tables_of(results.open)]
    if results.held_back is None:
        parts.append("What is held back has not been judged yet.")
    else:
        used_up = (
            "What is held back was judged once, before nine rules were changed or added. These were made after"
            " its results were known, so it is used up: it is not judged again, and says nothing of them."
        )
        parts += [_filled(f"{used_up} It is {_origin(results.held_back)}", 100), ""]
        parts += [
            replace(table, title=f"Held back: {table.title}").markdown() for table in tables_of(results.held_back)
        ]
    return "\n".join(parts).rstrip()


DOCUMENTS: Mapping[Path, Callable[[Results], str]] = {
    PROJECT / "README.md": project_block,
    PROJECT / "notebooks" / "benchmark" / "README.md": benchmark_block,
}
"""Where what is written."""


def replaced(text: str, block: str) -> str:
    """`text` with `block` between the two comments.

    Raises:
        ValueError: the comments are not there, each once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in old + after or END in before + after:
        raise ValueError(f"{BEGIN} and {END} must be there once each, in this order")
    return f"{before}{BEGIN}\n{block}\n\n{END}{after}"


def tables_of(section: Section) -> Iterator[Table]:
    """Every table of a section, for people; without those of other tools if none has judged."""
    yield from judge.main_tables(section.runs)
    titles = {"telemetry": "Sampled runs, by what is recorded of them"}
    titles["left_out"] = "Runs that were left out when the bounds were chosen"
    titles |= {key: f"Tools side by side, {key.removeprefix('tools_')}" for key in section.tables if "tools_" in key}
    for key, title in titles.items():
        named = named_rates(section, key)
        if named and not (key.startswith("tools_") and len(named) == 1):
            yield rates_table(key, title, named)


def named_rates(section: Section, key: str) -> dict[str, Rates]:
    """The counts of each group of a table of the section; empty if it has no such table."""
    return {row["group"]: Rates.from_record(row) for row in section.tables.get(key, ())}


# ---------------------------------------------------------------------- the project's README


def _measured(section: Section) -> str:
    runs, counts = section.runs, section.counts
    samples = runs.filter(pl.col("part") != public.PART)
    kinds = samples.filter(pl.col("kind") != plan.SOUND)["kind"].n_unique()
    return (
        f"{counts['runs']:,} runs of PPO, {counts['updates']:,} updates: {len(samples)} sampled from"
        f" {samples['trainer'].n_unique()} trainers on {samples['env'].n_unique()} environments, sound or broken on"
        f" purpose in {kinds} ways, and {len(runs) - len(samples)} public ones of other people. What a run achieved"
        f" beside its control makes it sound ({counts['sound']}), broken ({counts['broken']}) or unclear"
        f" ({counts['unclear']}, in no rate). Each was judged after every update. Intervals are exact, at 95 %."
    )


def _main_rows(results: Results) -> Iterator[Sequence[str]]:
    section = results.open
    parts = named_rates(section, "parts")
    yield _cells("**all**", parts[ALL])
    titles = {"rlmutation": "RLMutation's faults, CartPole, SB3", public.PART: "public runs"}
    for name, title in titles.items():
        if name in parts:
            yield _cells(title, parts[name])
    for name, one in named_rates(section, "reasons").items():
        if name in REASONS and one.broken:
            title, sound, _, *found = _cells(f"sampled, where {REASONS[name]}", one)
            yield (title, sound, "–", *found)
    for name, one in named_rates(section, "left_out").items():
        yield _cells(f"{name} when bounds were chosen", one)
    for name, one in named_rates(section, "tools_all").items():
        if name != "Esper":
            judged = one.sound + one.broken + one.unclear
            title = f"another tool: {name}"
            yield _cells(title if judged == section.counts["runs"] else f"{title}, on {judged} runs", one)
    if results.held_back is not None:
        yield _cells(
            "held back, judged once, before the newest rules",
            named_rates(results.held_back, "parts")[ALL],
        )


def _cells(title: str, one: Rates) -> Sequence[str]:
    return (
        title,
        counted(one.critical, one.sound, one.critical_share),
        _per(one.alarms_per(100_000)) if one.watched else "–",
        counted(one.found, one.broken, one.found_share),
        "–" if one.delay is None else f"{one.delay:,.0f}",
    )


def _per(interval: Interval) -> str:
    value, low, high = (f"{each:,.0f}" if each >= 10 else f"{each:.2g}" for each in interval)
    return f"{value} ({low}–{high})"


def _by_trainer(section: Section) -> str:
    said = [
        f"{TRAINERS[name]} {one.critical} of {one.sound} and {one.found} of {one.broken}"
        for name, one in named_rates(section, "trainers").items()
    ]
    return f"Sampled sound runs critical and broken ones found, by trainer: {'; '.join(said)}."


def _less_telemetry(section: Section) -> str:
    said = [
        f"{name} {one.critical} of {one.sound} and {one.found} of {one.broken}"
        for name, one in named_rates(section, "telemetry").items()
    ]
    return f"The same by what is recorded: {'; '.join(said)}."


def _worst(section: Section) -> Iterator[str]:
    alarmed = [(name, one.critical, one.sound) for name, one in named_rates(section, "environments").items()]
    missed = [(name, one.broken - one.found, one.broken) for name, one in named_rates(section, "kinds").items()]
    for word, groups in (("False alarms come from", alarmed), ("Most often missed are", missed)):
        bad = sorted((group for group in groups if group[1]), key=lambda group: (-group[1], -group[1] / group[2]))
        if bad:
            named = ", ".join(f"`{name}` ({count} of {of})" for name, count, of in bad[:FEW])
            yield f"{word} {named}{', and others' if len(bad) > FEW else ''}."


# ---------------------------------------------------------------------- the benchmark's README


def _origin(section: Section) -> str:
    counts, sampled = section.counts, section.sampled
    versions = ", ".join(f"{name} {number}" for name, number in section.versions.items())
    return (
        f"{counts['runs']:,} runs with {counts['updates']:,} updates: {counts['sound']} sound,"
        f" {counts['broken']} broken, {counts['unclear']} unclear. {sampled['batches']} batches of samples, the newest"
        f" of {sampled['date']}, judged on {section.judged} with {versions}."
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _filled(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)


@click.command()
def main(**_: Any) -> None:
    """Write the tables of the READMEs from results.json.

    Example: documents.py
    """
    try:
        results = read()
        for path, block in DOCUMENTS.items():
            path.write_text(replaced(path.read_text(encoding="utf-8"), block(results)), encoding="utf-8")
    except (OSError, ValueError) as error:
        click.echo(f"documents: {error}", err=True)
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    main()
