"""results.json is what is said of the committed runs, and the READMEs say what is in it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import corpus, documents, judge, public, results, thresholds
from benchmark.corpus import open_runs, sampled
from benchmark.fresh_plan import FIRST_LOT, FOURTH_LOT, LOTS, SECOND_LOT, THIRD_LOT, USED_UP, make_fresh_batches
from benchmark.outcomes import OPEN_FOLDERS
from benchmark.rates import Rates, cases
from benchmark.sample import missing_batches
from benchmark.storage import read_runs
from benchmark.tables import ALL

SAMPLES = results.FILE.parent / "samples"
READ = results.read()
EVERY = 6
"""One in so many runs is judged anew."""

FIRST = json.loads(results.FILE.read_text(encoding="utf-8"))
"""The file as it is."""


# ---------------------------------------------------------------------- the file


def test_the_file_has_every_committed_run_once() -> None:
    """There is a row for each sampled run that is open by now, and for each public one."""
    sampled_ones = [run["name"] for folder in OPEN_FOLDERS for run in read_runs(SAMPLES / folder)]
    names = sampled_ones + list(public.read().rows)
    assert READ.open.runs["name"].to_list() == sorted(names)
    assert READ.open.runs.columns == list(results.SCHEMA)


def test_its_tables_count_its_runs() -> None:
    """Each table of the verdict follows from the rows of the runs, and so do the counts."""
    section = READ.open
    for table in judge.main_tables(section.runs):
        assert results.rounded(table.records) == results.rounded(section.tables[table.key]), table.key
    assert section.counts["runs"] == len(section.runs)
    assert section.counts["updates"] == section.runs["rows"].sum()
    everything = documents.named_rates(section, "parts")[ALL]
    assert everything == Rates.of(section.runs)
    first = [run["name"] for run in read_runs(SAMPLES / OPEN_FOLDERS[0])] + list(public.read().rows)
    for_rivals = section.runs.filter(pl.col("name").is_in(first))
    assert documents.named_rates(section, "tools_all")["Esper"] == Rates.of(for_rivals)
    of_samples = documents.named_rates(section, "telemetry")["everything"]
    assert of_samples == Rates.of(section.runs.filter(pl.col("part") != public.PART))


def test_the_samples_are_those_that_were_judged() -> None:
    """The committed batches have the checksum in the file."""
    hint = "results.json is stale: `make benchmark-results benchmark-tables` makes it again"
    folders = [SAMPLES / folder for folder in OPEN_FOLDERS]
    assert results.sampled_when(folders, None)["sha256"] == READ.open.sampled["sha256"], hint


@pytest.mark.parametrize("lot", READ.lots)
def test_the_fresh_samples_are_those_that_were_judged(lot: str) -> None:
    """Each committed run of a lot that was judged is a row of the results; the batches have the checksum there."""
    section = READ.lots[lot]
    assert section.runs["name"].to_list() == sorted(run["name"] for run in read_runs(SAMPLES / lot))
    assert results.sampled_when([SAMPLES / lot], None)["sha256"] == section.sampled["sha256"]


@pytest.mark.parametrize("lot", LOTS)
def test_the_fresh_samples_are_planned(lot: str) -> None:
    """Each committed fresh run is as the plan has it, judged or not, and a lot takes less than 7 MB."""
    planned = [batch for batch in make_fresh_batches() if batch.folder == lot]
    there = len(list((SAMPLES / lot).glob("*.parquet")))
    assert len(missing_batches(planned, SAMPLES)) == len(planned) - there
    assert sum(path.stat().st_size for path in (SAMPLES / lot).glob("*")) < 7e6


def test_a_lot_that_judged_older_rules_is_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said once stays in the file."""
    monkeypatch.setattr(results, "LOTS", LOTS[: LOTS.index(FOURTH_LOT) + 1])  # as if no newer lot were planned
    to = tmp_path / "results.json"
    READ.write(to)
    before = to.read_bytes()
    done = call(SAMPLES, "--fresh", "--to", to)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert f"{FOURTH_LOT} has judged older rules, once" in done.stderr
    assert to.read_bytes() == before


def test_no_fresh_run_is_in_two_lots() -> None:
    """A run that judged older rules judges none of the newer ones."""
    names = [name for section in READ.lots.values() for name in section.runs["name"]]
    assert len(set(names)) == len(names)


@cache
def everything() -> corpus.Corpus:
    """All runs that are open; to read and label them takes seconds."""
    return open_runs(SAMPLES).together(public.read())


@pytest.mark.notebooks
def test_the_bounds_that_ship_are_those_that_the_runs_choose() -> None:
    """The critical bound of each tuned rule is what the script chooses by all sound runs that are open."""
    sound = everything().only(everything().labels.filter(pl.col("label") == "sound")["name"])
    assert thresholds.chosen([*thresholds.reached_by(sound).values()]) == thresholds.shipped()


@pytest.mark.notebooks
@pytest.mark.parametrize("of", ["open", *({"newest"} if READ.newest_lot not in USED_UP else ())])
def test_runs_judged_anew_come_out_as_in_the_file(of: str) -> None:
    """One run in six, always the same: label, first critical update, rules, and what follows."""
    section = READ.open if of == "open" else READ.newest
    assert section is not None
    every = everything() if of == "open" else sampled(SAMPLES, READ.newest_lot or "")
    names = section.runs["name"].gather_every(EVERY).to_list()
    some = every.only(names)
    anew = results.runs_of(cases(some.judged(), some.labels))
    before = section.runs.filter(pl.col("name").is_in(names))
    wrong = [(new, old) for new, old in zip(anew.to_dicts(), before.to_dicts(), strict=True) if new != old]
    assert wrong == [], "results.json is stale: `make benchmark-results benchmark-tables` makes it again"


def test_it_is_written_as_it_was_read(tmp_path: Path) -> None:
    """Nothing is lost on the way, and each run has a line of its own: an open one that was fresh once has two."""
    READ.write(tmp_path / "results.json")
    text = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert text == results.FILE.read_text(encoding="utf-8")
    names = [name for section in (READ.open, *READ.lots.values()) for name in section.runs["name"]]
    lines = [line.strip().removeprefix('["').split('"')[0] for line in text.splitlines() if ', "' in line]
    assert sorted(set(lines).intersection(names)) == sorted(set(names))
    assert all(lines.count(name) == count for name, count in Counter(names).items())


@pytest.mark.parametrize("path", documents.DOCUMENTS, ids=lambda path: str(path.relative_to(documents.PROJECT)))
def test_the_documents_say_what_is_in_the_file(path: Path) -> None:
    """What is between the comments is what `make benchmark-tables` writes."""
    text = path.read_text(encoding="utf-8")
    assert documents.replaced(text, documents.DOCUMENTS[path](READ)) == text, "`make benchmark-tables` was not run"


# ---------------------------------------------------------------------- making it


def call(*arguments: object) -> Any:
    """Run results.py."""
    return CliRunner().invoke(results.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few short runs: some open, and one of the newest fresh lot."""
    out = tmp_path_factory.mktemp("samples")
    runs = sorted(read_runs(SAMPLES / "batches"), key=lambda run: int(run["rows"]))[:6]
    of_folder = {"batches": runs[1:], LOTS[-1]: [runs[0] | {"is_held_back": True}]}
    rows = pl.concat([pl.read_parquet(path) for path in sorted((SAMPLES / "batches").glob("*.parquet"))])
    for folder, some in of_folder.items():
        (out / folder).mkdir()
        lines = "".join(json.dumps(run) + "\n" for run in some)
        (out / folder / "0000.runs.jsonl").write_text(lines, encoding="utf-8")
        numbers = [run["run"] for run in some]
        rows.filter(pl.col("run").is_in(numbers)).write_parquet(out / folder / "0000.parquet")
    return out


def tool_row(document: dict[str, Any]) -> list[str]:
    """The groups of the table of tools."""
    return [row["group"] for row in document["open"]["tables"]["tools_all"]]


@pytest.mark.notebooks
def test_each_call_refreshes_what_it_judges_and_keeps_the_rest(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tools that do not judge keep their rows; the newest fresh runs are judged alone, and stay when others are.

    An older lot stays as the rules of its day judged it.
    """
    for module in (corpus, results):  # as if the newest lot were not used up
        monkeypatch.setattr(module, "OPEN_FOLDERS", tuple(name for name in OPEN_FOLDERS if name != LOTS[-1]))
    monkeypatch.setattr(results, "USED_UP", frozenset())
    of_others = public.read().only([*public.read().rows][::10])
    monkeypatch.setattr(public, "read", lambda *_: of_others)
    to = tmp_path / "results.json"
    done = call(samples, "--to", to)
    assert (done.exit_code, done.stderr) == (0, "")
    first = json.loads(to.read_text(encoding="utf-8"))
    assert not first.keys() & set(LOTS)
    assert first["open"]["counts"]["runs"] == 5 + len(of_others.rows)
    assert tool_row(first) == ["Esper"]
    assert {"telemetry", "left_out", "environments", "rules"} < set(first["open"]["tables"])

    row = first["open"]["tables"]["tools_all"][0] | {"group": "rlwatch", "found": 0}
    first["open"]["tables"]["tools_all"].append(row)
    first["open"]["tables"]["tools_all"][0] = first["open"]["tables"]["tools_all"][0] | {"found": -1}
    first["open"]["sampled"]["date"] = "2001-01-01"
    first[FIRST_LOT] = FIRST[FIRST_LOT]
    to.write_text(json.dumps(first), encoding="utf-8")
    assert call(samples, "--fresh", "--to", to).exit_code == 0
    second = json.loads(to.read_text(encoding="utf-8"))
    assert second["open"] == first["open"]
    assert second[FIRST_LOT] == first[FIRST_LOT]
    assert second[LOTS[-1]]["counts"]["runs"] == 1
    assert second[LOTS[-1]]["sampled"]["batches"] == 1

    assert call(samples, "--to", to).exit_code == 0
    third = json.loads(to.read_text(encoding="utf-8"))
    assert third.keys() == second.keys()
    assert all(third[lot] == second[lot] for lot in LOTS if lot in second)
    assert tool_row(third) == ["Esper", "rlwatch"]
    assert third["open"]["tables"]["tools_all"][0]["found"] >= 0
    assert third["open"]["tables"]["tools_all"][1] == row
    assert third["open"]["sampled"]["date"] == "2001-01-01"  # the samples are the same


def test_new_samples_have_a_new_date(samples: Path, tmp_path: Path) -> None:
    """It is that of the newest batch."""
    folder = shutil.copytree(samples / "batches", tmp_path / "batches")
    os.utime(folder / "0000.parquet", (86_400, 86_400))
    assert results.sampled_when([folder], READ.open)["date"] == "1970-01-02"


def test_what_is_not_there_is_said_in_one_line(samples: Path, tmp_path: Path) -> None:
    """No batches, nothing to add to, or a file of another kind: one line, exit 2, nothing written."""
    other = tmp_path / "other.json"
    other.write_text('{"format": "esper-benchmark/1"}', encoding="utf-8")
    absent = tmp_path / "absent.json"
    for arguments, message in (
        ((tmp_path, "--to", absent), f"{tmp_path / 'batches'} has no finished batch; sample.py makes them"),
        ((samples, "--fresh", "--to", absent), f"{absent} is not there yet; judge the other runs first"),
        ((samples, "--to", other), f"{other} is 'esper-benchmark/1'; {results.FORMAT} was expected"),
    ):
        done = call(*arguments)
        assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"results: {message}\n")
    assert not absent.exists()


# ---------------------------------------------------------------------- the documents


def with_tables(**tables: Any) -> results.Results:
    """The results with other tables, before fresh runs were judged."""
    section = FIRST["open"] | {"tables": FIRST["open"]["tables"] | tables}
    return results.Results(open=results.Section.from_json(section))


def test_a_tool_on_fewer_runs_says_so() -> None:
    """Its row stands beside Esper's, with the number of its runs if that is another."""
    (row,) = [row for row in FIRST["open"]["tables"]["parts"] if row["group"] == ALL]
    all_of_them = row | {"group": "Esper"}
    fewer = all_of_them | {"group": "rlwatch", "unclear": 0, "sound": 7, "broken": 2, "critical": 1, "found": 1}
    same = all_of_them | {"group": "rlprobe"}
    block = documents.project_block(with_tables(tools_all=[all_of_them, same, fewer]))
    assert "| another tool: rlwatch, on 9 runs | 1 of 7 (" in block
    assert "| another tool: rlprobe | " in block
    assert "rlwatch" not in documents.project_block(with_tables(tools_all=[all_of_them]))
    assert "these rules, on " not in documents.project_block(with_tables(tools_all=[all_of_them]))


def test_fresh_runs_are_said_to_be_to_come_until_they_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentences go, and rows and tables come; the headline is then of the fresh runs."""
    monkeypatch.setattr(documents, "USED_UP", frozenset())
    to_come = results.Results(open=READ.open)
    assert "Still to come: fresh runs" in documents.project_block(to_come)
    assert "have not been judged yet" in documents.benchmark_block(to_come)
    assert "**fresh runs" not in documents.project_block(to_come)
    judged = results.Results(open=READ.open, lots={THIRD_LOT: READ.open})
    project, benchmark = documents.project_block(judged), documents.benchmark_block(judged)
    assert "Still to come" not in project
    assert "have not been judged yet" not in benchmark
    first = next(line for line in project.splitlines() if line.startswith("| ") and " of " in line)
    assert first.startswith("| **fresh runs, judged once with these rules** |")
    assert "### Fresh: All runs, by part" in benchmark
    assert "first lot" not in project
    assert "First lot:" not in benchmark


def test_a_lot_that_changed_a_rule_is_not_said_to_have_judged_the_rules_of_today() -> None:
    """Its row says what it judged, and the sentence above the table that rules were changed for it."""
    judged = results.Results(open=READ.open, lots={THIRD_LOT: READ.open})
    project = documents.project_block(judged)
    assert f"| **{documents.EARLIER[THIRD_LOT]}** |" in project
    assert "with these rules" not in project
    assert "(some were changed since)" in " ".join(project.split())


def test_earlier_lots_have_one_row_and_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are said to have judged older rules, together below the newest lot that was judged."""
    monkeypatch.setattr(documents, "USED_UP", frozenset())
    both = results.Results(open=READ.open, lots={FIRST_LOT: READ.lots[FIRST_LOT], THIRD_LOT: READ.open})
    rows = [line for line in documents.project_block(both).splitlines() if line.startswith("| ")]
    (earlier,) = [row for row in rows if documents.EARLIER_LOTS.format(1) in row]
    assert "| 9 of 131 (" in earlier
    assert "| 20 of 28 (" in earlier
    fresh = [index for index, row in enumerate(rows) if row.startswith(("| **fresh", "| fresh"))]
    assert rows.index(earlier) == max(fresh) + 1
    assert "### First lot: All runs, by part" in documents.benchmark_block(both)
    alone = results.Results(open=READ.open, lots={FIRST_LOT: READ.lots[FIRST_LOT]})
    assert alone.newest is READ.lots[FIRST_LOT]
    assert documents.EARLIER_LOTS.format(1) not in documents.project_block(alone)
    three = {FIRST_LOT: READ.lots[FIRST_LOT], SECOND_LOT: READ.lots[SECOND_LOT], THIRD_LOT: READ.open}
    together = documents.project_block(results.Results(open=READ.open, lots=three))
    assert f"{documents.EARLIER_LOTS.format(2)} | 9 of 169 (" in together
    assert documents.EARLIER.keys() >= {*LOTS[:-1], *USED_UP}


def test_the_worst_are_named() -> None:
    """Environments with false alarms and kinds that were missed stand in the README, the worst first."""
    rows = FIRST["open"]["tables"]["parts"][0] | {"sound": 10, "broken": 10, "found": 10, "critical": 0}
    environments = [rows | {"group": f"E{number}", "critical": number} for number in range(7)]
    kinds = [rows | {"group": "seen"}, rows | {"group": "unseen", "found": 3}]
    block = " ".join(documents.project_block(with_tables(environments=environments, kinds=kinds)).split())
    four = "`E6` (6 of 10), `E5` (5 of 10), `E4` (4 of 10), `E3` (3 of 10), and others."
    assert f"False alarms come from {four}" in block
    assert "Most often missed are `unseen` (7 of 10)." in block


@pytest.mark.parametrize("text", ["", documents.BEGIN, f"{documents.END}{documents.BEGIN}", 2 * documents.BEGIN])
def test_without_its_two_comments_a_document_is_left_alone(text: str) -> None:
    """They must be there once each and in order."""
    with pytest.raises(ValueError, match="once each, in this order"):
        documents.replaced(text, "block")
