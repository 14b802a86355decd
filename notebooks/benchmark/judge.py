"""Judges the sampled runs with the rules of today, beside their labels.

python notebooks/benchmark/judge.py notebooks/benchmark/samples --misses
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import polars as pl

from benchmark.judged import Judged, judged_runs
from benchmark.outcomes import label_folder
from benchmark.storage import read_rows


def case(run: dict[str, object], one: Judged) -> dict[str, object]:
    """What came of judging one labelled run."""
    onset = run["begins"]
    return run | {
        "rows": len(one.updates),
        "false_alarm": one.first_critical is not None and (run["label"] == "sound" or one.first_critical < onset),
        "found": one.critical_from(onset),
        "first_critical": one.first_critical,
        "first_warning": one.first_warning,
        "last": one.last,
        "rules": ", ".join(one.rules),
        "last_rules": ", ".join(one.last_rules),
    }


@click.command()
@click.argument("out", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--held-back", is_flag=True, help="Those that are held back, which nobody looks at before the end.")
@click.option("--misses", is_flag=True, help="List every missed and every falsely critical run.")
def main(out: Path, held_back: bool, misses: bool) -> None:
    """Judge the runs that sample.py put into FOLDER."""
    folder = "held_back" if held_back else "batches"
    labels = label_folder(out, [folder])
    found = judged_runs(read_rows(out / folder).collect())
    cases = pl.DataFrame(
        [case(run, found[run["run"]]) for run in labels.to_dicts() if run["run"] in found], infer_schema_length=None
    )
    sound, broken = cases.filter(pl.col("label") == "sound"), cases.filter(pl.col("label") == "broken")
    click.echo(f"sound ever critical: {sound['false_alarm'].sum()} of {len(sound)}")
    click.echo(
        f"broken found: {broken['found'].is_not_null().sum()} of {len(broken)}, too early {broken['false_alarm'].sum()}"
    )
    if misses:
        with pl.Config(
            tbl_rows=-1,
            tbl_cols=-1,
            tbl_width_chars=250,
            fmt_str_lengths=80,
            tbl_hide_dataframe_shape=True,
            tbl_hide_column_data_types=True,
        ):
            click.echo(sound.filter("false_alarm").select("name", "updates", "first_critical", "last", "rules"))
            click.echo(
                broken.filter(pl.col("found").is_null() | pl.col("false_alarm")).select(
                    "name", "reasons", "updates", "begins", "first_critical", "last", "last_rules", "rules"
                )
            )


if __name__ == "__main__":
    main()
