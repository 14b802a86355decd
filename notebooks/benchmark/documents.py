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
from benchmark.fresh_environments import FRESH_TASKS
from benchmark.fresh_faults import FRESH_KINDS
from benchmark.fresh_plan import (
    EIGHTH_LOT,
    FIFTH_LOT,
    FIRST_LOT,
    FOURTH_LOT,
    LOTS,
    NINTH_LOT,
    SECOND_LOT,
    SEVENTH_LOT,
    SIXTH_LOT,
    TENTH_LOT,
    THIRD_LOT,
    USED_UP,
)
from benchmark.outcomes import LABELS
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

EARLIER: Mapping[str, str] = {
    FIRST_LOT: "the first lot of fresh runs, judged once before two rules were changed",
    SECOND_LOT: "the second lot of fresh runs, judged once before warnings, health and falls were judged anew",
    THIRD_LOT: "the third lot of fresh runs, judged once before falls and diverging critics were judged anew",
    FOURTH_LOT: "the fourth lot of fresh runs, judged once before two rules were changed for it",
    FIFTH_LOT: "the fifth lot of fresh runs, judged once before the critic was given more time",
    SIXTH_LOT: "the sixth lot of fresh runs, judged once before the critic was asked only where it is flat",
    SEVENTH_LOT: "the seventh lot of fresh runs, judged once before less telemetry was judged anew",
    EIGHTH_LOT: "the eighth lot of fresh runs, judged once before less telemetry was judged anew",
    NINTH_LOT: "the ninth lot of fresh runs, judged once before runs without a control became unclear",
}
"""What is said of older lots of fresh runs, by folder."""

EARLIER_LOTS = "earlier fresh runs, in {} lots, each judged once by the rules of its day"
"""What is said of them together, in the project's README."""

TITLES: Mapping[str, str] = {
    FIRST_LOT: "First lot",
    SECOND_LOT: "Second lot",
    THIRD_LOT: "Third lot",
    FOURTH_LOT: "Fourth lot",
    FIFTH_LOT: "Fifth lot",
    SIXTH_LOT: "Sixth lot",
    SEVENTH_LOT: "Seventh lot",
    EIGHTH_LOT: "Eighth lot",
    NINTH_LOT: "Ninth lot",
    TENTH_LOT: "Tenth lot",
}
"""What the lots are called in tables."""

RLMUTATION = "rlmutation"
"""The part that has RLMutation's operators as published."""

HEADS = ("runs", "sound, ever critical", "false alarms per 100,000 updates", "broken, found", "median delay, updates")

FEW = 4
"""So many of the worst are named."""


def project_block(results: Results) -> str:
    """What the project's README says of the results; of the newest fresh runs first, once they were judged."""
    lines = [_row(HEADS), _row(["---"] * len(HEADS)), *(_row(cells) for cells in _main_rows(results))]
    newest = results.newest
    headline = results.open if newest is None else newest
    prose = [_by_trainer(headline), _by_warning(headline), _less_telemetry(headline), *_worst(headline)]
    if newest is None:
        prose.append("Still to come: fresh runs, on environments and with faults that no rule was made with.")
    else:
        prose.insert(0, "The points below are of the first row.")
    listed = [_filled(f"- {text}", 100, "  ") for text in prose]
    measured = " ".join(_measured(results))
    return "\n".join([_filled(measured, 100), "", *lines, "", *listed])


def benchmark_block(results: Results) -> str:
    """What the benchmark's README says of the results: where they come from, and every table."""
    parts: list[str] = []
    if results.newest is None:
        parts += ["The fresh runs have not been judged yet.", ""]
    else:
        parts += [_filled(f"The fresh runs, judged once: {_origin(results.newest)}", 100), ""]
        parts += [replace(table, title=f"Fresh: {table.title}").markdown() for table in fresh_tables(results.newest)]
    for name, section in _earlier(results):
        parts += [_filled(f"{EARLIER[name].capitalize()}: {_origin(section)}", 100), ""]
        parts += [replace(table, title=f"{TITLES[name]}: {table.title}").markdown() for table in fresh_tables(section)]
    parts += [_filled(f"The open runs, which the rules were made with: {_origin(results.open)}", 100), ""]
    parts += [replace(table, title=f"Open: {table.title}").markdown() for table in tables_of(results.open)]
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


def _earlier(results: Results) -> Iterator[tuple[str, Section]]:
    """The lots but for the newest, which may have judged older rules, the newest first."""
    yield from (
        (name, results.lots[name]) for name in reversed(LOTS) if name in results.lots and name != results.newest_lot
    )


def tables_of(section: Section) -> Iterator[Table]:
    """Every table of a section, for people; without those of other tools if none has judged."""
    yield from judge.main_tables(section.runs)
    titles = {"telemetry": "Sampled runs, by what is recorded of them"}
    titles["goals"] = "Sampled runs that know a goal of the return, with it and without"
    titles["left_out"] = "Runs that were left out when the bounds were chosen"
    titles |= {key: f"Tools side by side, {key.removeprefix('tools_')}" for key in section.tables if "tools_" in key}
    for key, title in titles.items():
        named = named_rates(section, key)
        if named and not (key.startswith("tools_") and len(named) == 1):
            yield rates_table(key, title, named)


def named_rates(section: Section, key: str) -> dict[str, Rates]:
    """The counts of each group of a table of the section; empty if it has no such table."""
    return {row["group"]: Rates.from_record(row) for row in section.tables.get(key, ())}


def novelties(section: Section) -> dict[str, Rates]:
    """The counts of the fresh runs of the part "main", by what of them is new."""
    runs = section.runs.filter(pl.col("part") == "main")
    is_new_task = pl.col("env").is_in([task.name for task in FRESH_TASKS])
    is_new_kind = pl.col("kind").is_in(list(FRESH_KINDS))
    groups = {
        "on new environments": is_new_task,
        "broken in new ways": is_new_kind,
        "on new environments, broken in known ways": is_new_task & ~is_new_kind & (pl.col("kind") != plan.SOUND),
        "on known environments": ~is_new_task,
        "of more than 1,000 updates": pl.col("rows") > 1000,
    }
    there = {name: runs.filter(group) for name, group in groups.items()}
    return {name: Rates.of(some) for name, some in there.items() if len(some)}


def fresh_tables(section: Section) -> Iterator[Table]:
    """The tables of the fresh runs: that by what is new, and all others."""
    yield rates_table("novelties", "Sampled runs, by what of them is new", novelties(section))
    yield from tables_of(section)


# ---------------------------------------------------------------------- the project's README


def _measured(results: Results) -> Iterator[str]:
    if results.newest is not None:
        runs, counts = results.newest.runs, results.newest.counts
        tasks = runs.filter(pl.col("env").is_in([task.name for task in FRESH_TASKS]))["env"].n_unique()
        kinds = runs.filter(pl.col("kind").is_in(list(FRESH_KINDS)))["kind"].n_unique()
        yield (
            f"{counts['runs']:,} fresh runs of PPO, {counts['updates']:,} updates, were judged once, after all rules"
            f" had been made{_since(results)}: on {tasks} environments and in {kinds} ways of breaking that the rules"
            f" were not made with, and on known ones ({_labelled(counts)})."
        )
    runs, counts = results.open.runs, results.open.counts
    samples = runs.filter(pl.col("part") != public.PART)
    kinds = samples.filter(pl.col("kind") != plan.SOUND)["kind"].n_unique()
    yield (
        f"The rules were made with {counts['runs']:,} other runs, {counts['updates']:,} updates: {len(samples):,}"
        f" sampled from {samples['trainer'].n_unique()} trainers on {samples['env'].n_unique()} environments, sound or"
        f" broken on purpose in {kinds} ways, and {len(runs) - len(samples)} public ones of other people"
        f" ({_labelled(counts)})."
    )
    yield (
        "What a run achieved beside its control makes it sound, broken or unclear; unclear ones are in no rate. Each"
        " was judged after every update. Intervals are exact, at 95 %."
    )


def _since(results: Results) -> str:
    return " (some were changed since)" if results.newest_lot in USED_UP else ""


def _labelled(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[label]} {label}" for label in LABELS)


def _main_rows(results: Results) -> Iterator[Sequence[str]]:
    if (newest := results.newest) is not None:
        parts = named_rates(newest, "parts")
        name = results.newest_lot
        title = EARLIER[name] if name in USED_UP else "fresh runs, judged once with these rules"
        yield _cells(f"**{title}**", parts[ALL])
        for group, one in novelties(newest).items():
            yield _cells(f"fresh, {group}", one)
        if RLMUTATION in parts:
            yield _cells("fresh, RLMutation's faults, CartPole, SB3", parts[RLMUTATION])
        yield from _tool_rows(newest, "fresh, ")
    if earlier := [section.runs for _, section in _earlier(results)]:
        yield _cells(EARLIER_LOTS.format(len(earlier)), Rates.of(pl.concat(earlier)))
    section = results.open
    parts = named_rates(section, "parts")
    yield _cells("runs that the rules were made with", parts[ALL])
    titles = {RLMUTATION: "of these, RLMutation's faults, CartPole, SB3", public.PART: "of these, public runs"}
    for name, title in titles.items():
        if name in parts:
            yield _cells(title, parts[name])
    for name, one in named_rates(section, "left_out").items():
        yield _cells(f"{name} when bounds were chosen", one)
    yield from _tool_rows(section)


def _tool_rows(section: Section, prefix: str = "") -> Iterator[Sequence[str]]:
    tools = named_rates(section, "tools_all")
    for name, one in tools.items():
        judged = one.sound + one.broken + one.unclear
        is_part = judged != section.counts["runs"]
        title = f"{prefix}{'these rules' if name == 'Esper' else f'another tool: {name}'}"
        if name != "Esper" or (is_part and len(tools) > 1):
            yield _cells(f"{title}, on {judged} runs" if is_part else title, one)


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


def _by_warning(section: Section) -> str:
    (table,) = [one for one in judge.main_tables(section.runs) if one.key == "levels"]
    found = {row["group"]: row for row in table.records}
    sound, broken = (
        f"{found[label]['warning']} of {found[label]['runs']} {label} runs" for label in ("sound", "broken")
    )
    unknown = f"{found['sound']['unknown']} and {found['broken']['unknown']}"
    return (
        f"What a warning is worth: {sound} and {broken} ended with a warning; {unknown} ended unknown, and"
        f" {found['broken']['healthy']} broken ones healthy."
    )


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
