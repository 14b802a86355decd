"""A folder of runs as a reference: which of its runs count, and what is said where none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from tests.analyzer.conftest import Record
from tests.analyzer.earning import RISES, STUCK, rows_earning

from esper_analyzer import live_monitor, open_run, with_references
from esper_analyzer.cli import main
from esper_analyzer.judging.task import Task
from esper_analyzer.listing.references import MOST_OF_FOLDER
from esper_schemas.errors import NotARunError, UsageError
from esper_schemas.run import finding


@pytest.fixture
def root(record: Record) -> Path:
    """A folder with healthy runs: three of one task, one of Hopper-v5, one of a trainer; and a run that never rose."""
    for name in "abc":
        record(rows_earning(RISES), name, env="Corridor-v0")
    record(rows_earning(RISES), "other", env="Hopper-v5")
    record(rows_earning(RISES), "foreign", env="Corridor-v0", trainer="another trainer")
    return record(rows_earning(STUCK[:100]), "stuck", env="Corridor-v0").parent


def reasons(run: str, root: Path, *references: str | Path) -> list[str]:
    """The reasons of the verdict on a run beside references."""
    return open_run(run, root, settings=with_references(references, root)).report().verdict.reasons


def test_a_folder_stands_for_its_healthy_runs(root: Path) -> None:
    """Those of its environment and trainer; neither another one, nor the run itself."""
    beside = with_references([root], root)
    report = open_run("stuck", root, settings=beside).report()
    assert sorted(report.run.references) == ["a", "b", "c"]
    assert report.verdict.level == "critical"
    assert not any("other" in reason or "foreign" in reason for reason in report.verdict.reasons)
    assert open_run("stuck", root).report().verdict.level != "critical"


def test_fewer_than_three_are_none(root: Path) -> None:
    """Beside the two others of its folder a healthy run is judged alone, and its verdict says why."""
    said = f"It was judged beside no other run: fewer than 3 other runs of Corridor-v0 with {{}} in {root} are healthy."
    assert said.format("no named trainer") in reasons("a", root, root)
    assert said.format("another trainer") in reasons("foreign", root, root)
    assert "It was judged beside b." in reasons("a", root, root, "b")  # who is named counts alone
    assert said.format("no named trainer") in reasons("a", root, root, "other")  # beside what is said of that one


@pytest.mark.parametrize(
    "how", ["the folder in force", "a name under it", "a path", "the current folder", "beside a stray file"]
)
def test_how_a_folder_is_named(root: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `--root` itself, by a name under it, or by a path; a file that lies in it makes it no log of a trainer."""
    if how == "beside a stray file":
        (root / "notes.txt").write_text("seeds 1 to 3\n")
    monkeypatch.chdir(root)
    named, under, run = {
        "a name under it": (root.name, root.parent, f"{root.name}/stuck"),
        "the current folder": (".", Path("runs"), "./stuck"),
    }.get(how, (str(root), root, "stuck"))
    where = ["--root", str(under), "--reference", named]
    told = CliRunner().invoke(main, ["report", run, *where, "--format", "json"])
    assert told.exit_code == 0, told.output
    assert sorted(json.loads(told.stdout)["run"]["references"]) == ["a", "b", "c"]


def test_the_folder_in_force_may_be_empty_yet(tmp_path: Path) -> None:
    """The first run of a sweep finds none; a folder that is misspelt is an error."""
    settings = with_references([tmp_path / "sweep"], tmp_path / "sweep")
    assert (settings.references, settings.references_in) == ((), (str(tmp_path / "sweep"),))
    with pytest.raises(NotARunError, match=r"^no run sweeep under "):
        with_references(["sweeep"], tmp_path / "sweep")


def test_the_folder_in_force_is_told_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute path names the same folder as a relative one, also before it is there."""
    monkeypatch.chdir(tmp_path)
    for named, root in ((tmp_path / "sweep", "sweep"), ("sweep", tmp_path / "sweep"), (".", ".")):
        assert with_references([named], root).references_in == (str(named),)


def test_a_folder_that_cannot_be_searched_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have sound runs, so to judge alone, as beside an empty one, would hide that nobody looked."""
    monkeypatch.setattr(finding, "MAX_FOLDERS", 2)
    with pytest.raises(NotARunError, match="has more than 2 folders below it"):
        with_references([root], root)
    file = root / "notes.txt"
    file.write_text("seeds 1 to 3\n")
    with pytest.raises(NotARunError, match=r"^there are no runs in .*notes.txt"):
        with_references([file], file)


def test_settings_keep_the_references_that_they_have(root: Path) -> None:
    """Whoever adds one loses none; one that is named after it was found in a folder counts as named."""
    beside = with_references(["b"], root, with_references(["a"], root))
    assert [one.name for one in beside.references] == ["a", "b"]
    again = with_references(["c"], root, with_references([root], root, beside))
    assert again.references_in == (str(root),)
    assert {one.name for one in again.references if one.found_in is None} == {"a", "b", "c"}


def test_the_newest_of_many_count(record: Record) -> None:
    """So that a folder of hundreds costs no more than one of twelve."""
    for number in range(MOST_OF_FOLDER + 2):
        root = record(rows_earning(RISES), f"seed-{number:02}", env="Corridor-v0").parent
    beside = with_references([root], root)
    assert {one.name for one in beside.references} == {f"seed-{i:02}" for i in range(2, MOST_OF_FOLDER + 2)}


def test_a_run_without_an_environment_is_beside_those_that_are_named(record: Record, root: Path) -> None:
    """Nobody knows which runs of a folder are of its task, also if these name none either, and a remark says so."""
    for name in ("unnamed", "x", "y", "z"):
        record(rows_earning(RISES), name)
    told = reasons("unnamed", root, root)
    said = f"no environment is named, by which runs in {root} are found; name references one by one."
    assert f"It was judged beside no other run: {said}" in told
    assert "It was judged beside a, x." in reasons("unnamed", root, "a", "x")


def test_a_reference_that_is_no_good_is_told(record: Record, root: Path) -> None:
    """It is used all the same, since a person named it."""
    bad = rows_earning(RISES)
    for row in bad[50:]:
        row["value_loss"] = float("nan")
    record(bad, "bad", env="Corridor-v0")
    hurt = record(rows_earning(RISES), "hurt", env="Corridor-v0", segment_rows=50)
    last = sorted(hurt.rglob("*.parquet"))[-1]
    last.write_bytes(last.read_bytes()[:-40])
    assert "bad, beside which it was judged, is critical itself." in reasons("stuck", root, "bad")
    assert "hurt, beside which it was judged, is damaged itself." in reasons("stuck", root, "hurt")
    assert not any("itself" in reason for reason in reasons("stuck", root, "a"))
    pl.DataFrame(bad).write_csv(root / "bad.csv")
    assert "bad.csv, beside which it was judged, is critical itself." in reasons("stuck", root, root / "bad.csv")


def test_a_list_says_that_no_run_was_judged_beside_one(record: Record, root: Path) -> None:
    """The numbers are those without references then, and nobody would see it."""
    record(rows_earning(RISES), "another", env="Hopper-v5")
    hopper, cart = ["--filter", "env == Hopper-v5"], ["--reference", "a"]
    where = ["--root", str(root)]
    said = "warning: judged alone: the references are of Corridor-v0, and these runs of Hopper-v5"
    apart = ["compare", "other", "another", *where]
    for command in (["runs", *where, *hopper], ["fleet", str(root), *where, *hopper], apart):
        assert said in CliRunner().invoke(main, [*command, *cart]).stderr, command
        assert "judged alone" not in CliRunner().invoke(main, command).stderr
    together = ["compare", "other", "stuck", *where, *cart]
    assert "judged alone" not in CliRunner().invoke(main, together).stderr
    alone = CliRunner().invoke(main, ["runs", *where, *hopper, "--reference", str(root)]).stderr
    hoppers = "Hopper-v5 with no named trainer"
    assert f"judged alone: fewer than 3 other runs of {hoppers} in {root} are healthy" in alone
    foreign = CliRunner().invoke(main, ["runs", *where, "--filter", "name == foreign", "--reference", str(root)]).stderr
    assert f"fewer than 3 other runs of Corridor-v0 with another trainer in {root} are healthy" in foreign


@pytest.mark.parametrize("command", [["runs"], ["fleet", "--workers", "1"], ["compare", "a", "b"]])
def test_a_list_of_the_references_themselves_says_so(command: list[str], record: Record) -> None:
    """No run is judged beside itself, so three healthy runs are judged alone, from the cache too."""
    for name in "abc":
        root = record(rows_earning(RISES), name, env="Corridor-v0").parent
    said = f"judged alone: fewer than 3 other runs of Corridor-v0 with no named trainer in {root} are healthy"
    for _ in range(2):
        done = CliRunner().invoke(main, [*command, "--root", str(root), "--reference", str(root)])
        assert said in done.stderr
    record(rows_earning(RISES), "d", env="Corridor-v0")
    done = CliRunner().invoke(main, [*command, "--root", str(root), "--reference", str(root)])
    assert "judged alone" not in done.stderr


def test_a_list_of_the_only_reference_says_so(root: Path) -> None:
    """It is of the same environment, and judged alone all the same."""
    only = ["--filter", "name == a", "--reference", "a"]
    assert "judged alone: the only reference is this run itself" in (
        CliRunner().invoke(main, ["runs", "--root", str(root), *only]).stderr
    )


def test_a_run_that_is_named_counts_among_those_of_its_folder(root: Path) -> None:
    """To name one of the three as well takes none of them away."""
    assert any(reason.startswith("It was judged beside") for reason in reasons("stuck", root, root, "a"))
    for named in ([str(root), "a"], ["a", str(root)]):
        found = open_run("stuck", root, settings=with_references(named, root)).references
        assert sorted(one.name for one in found) == ["a", "b", "c"]


def test_the_version_of_a_trainer_is_not_its_name(record: Record, root: Path) -> None:
    """Runs before an upgrade are references after it; another trainer of which the name begins alike is another."""
    for version in ("2.6.0", "2.7.1", "2.9.2a1"):
        record(rows_earning(RISES), f"sb3-{version}", env="Hopper-v5", trainer=f"stable-baselines3 {version}")
    for name, trainer, count in (("new", "stable-baselines3 2.10.0", 3), ("next", "stable-baselines4 2.9.2", 0)):
        record(rows_earning(STUCK[:100]), name, env="Hopper-v5", trainer=trainer)
        assert len(open_run(name, root, settings=with_references([root], root)).references) == count


def test_a_run_that_is_resumed_is_no_reference_of_itself(root: Path) -> None:
    """A monitor is told which run it watches."""
    beside = with_references(["a", "b"], root)
    uuid = open_run("a", root).header.run_uuid
    monitor = live_monitor(settings=beside, env="Corridor-v0", run_uuid=uuid)
    assert [one.name for one in monitor._judge.references] == ["b"]


def test_a_monitor_is_beside_those_of_its_trainer(root: Path) -> None:
    """As of its environment, where they were found in a folder."""
    beside = with_references([root], root)
    for trainer, count in ((None, 3), ("another trainer", 0)):
        monitor = live_monitor(settings=beside, env="Corridor-v0", trainer=trainer)
        assert len(monitor._judge.references) == count


def test_names_are_safe_to_print(root: Path) -> None:
    """Those of folders may have control characters, which would reach the terminal with the verdict."""
    for name in "abc":
        (root / name).rename(root / f"{name}\x1b[31m")
    told = reasons("stuck", root, root)
    assert any(r"c\x1b[31m" in reason for reason in told)
    (root / "few\x1b[31m").mkdir()
    (root / "c\x1b[31m").rename(root / "few\x1b[31m/c")
    told += reasons("stuck", root, "few\x1b[31m")
    assert any(r"few\x1b[31m" in reason for reason in told)
    assert not any("\x1b" in reason for reason in told)


def test_documents_name_the_references(root: Path) -> None:
    """Those of a check, a comparison, a list and a fleet do, as that of a report does; from the cache too."""
    asked = ["--root", str(root), "--reference", str(root), "--format"]
    check = json.loads(CliRunner().invoke(main, ["check", "stuck", *asked, "json"]).stdout)
    compare = json.loads(CliRunner().invoke(main, ["compare", "stuck", "a", *asked, "json"]).stdout)
    assert sorted(check["run"]["references"]) == ["a", "b", "c"]
    assert {one["label"]: sorted(one["references"]) for one in compare["runs"]} == {"stuck": ["a", "b", "c"], "a": []}
    for command in (["runs"], ["runs"], ["fleet", "--workers", "1"]):
        listed = json.loads(CliRunner().invoke(main, [*command, *asked, "json"]).stdout)
        of = {one["name"]: sorted(one["references"]) for one in listed["runs"]}
        assert (of["stuck"], of["a"]) == (["a", "b", "c"], []), command
        table = pl.read_csv(CliRunner().invoke(main, [*command, *asked, "csv"]).stdout.encode())
        row = dict(table.select("name", "references").iter_rows())
        assert (sorted(row["stuck"].split(", ")), row["a"]) == (["a", "b", "c"], None), command


SLIPPERY = {"env_kwargs": {"is_slippery": True, "sizes": [4, 4]}}
SETTINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "the same": (SLIPPERY, True),
    "in another order, and drawn": (
        {"env_kwargs": {"render_mode": "human", "sizes": [4, 4], "is_slippery": True}, "lr": 0.1},
        True,
    ),
    "other ones": ({"env_kwargs": {"is_slippery": False, "sizes": [4, 4]}}, False),
    "one more": ({"env_kwargs": {"is_slippery": True, "sizes": [4, 4], "ice": 2}}, False),
    "none": ({"lr": 0.1}, False),
    "under another name": ({"env_config": {"is_slippery": True, "sizes": [4, 4]}}, False),
}


@pytest.mark.parametrize("how", SETTINGS)
def test_an_environment_with_other_settings_is_another_task(how: str, record: Record) -> None:
    """As far as the configuration says how it was made; who names a run knows what it is of."""
    config, is_same = SETTINGS[how]
    for name in "abc":
        root = record(rows_earning(RISES), name, env="Lake", config=SLIPPERY).parent
    record(rows_earning(STUCK[:100]), "stuck", env="Lake", config=config)
    run = open_run("stuck", root, settings=with_references([root], root))
    assert len(run.references) == (3 if is_same else 0)
    told = f"fewer than 3 other runs of Lake with no named trainer and the same settings of the environment in {root}"
    assert any(told in reason for reason in run.report().verdict.reasons) != is_same
    monitor = live_monitor(settings=run.settings, env="Lake", config=config)
    assert len(monitor._judge.references) == (3 if is_same else 0)
    assert len(open_run("stuck", root, settings=with_references(["a"], root)).references) == 1


@pytest.mark.parametrize("config", [{}, {"env_kwargs": {}}, {"env_args": None}, {"ppo": {"env_config": {"seed": 7}}}])
def test_settings_that_say_nothing_are_none(config: dict[str, Any]) -> None:
    """Empty ones, and the seed, do not tell an environment from the one without any."""
    assert Task.of("Lake", None, config) == Task("Lake")


def test_settings_are_found_at_any_depth() -> None:
    """Nested as a trainer has them, and by dotted name as a list has them, they are the same."""
    nested = Task.of("Lake", None, {"task": {"env_config": {"size": 8}}, "lr": 0.1})
    assert nested == Task.of("Lake", None, {"task.env_config.size": 8, "lr": 0.2}) != Task("Lake")


def test_a_list_says_what_could_be_judged_beside_others(root: Path) -> None:
    """Once, as text, where three healthy runs have a sibling that nobody is sure of; with the option to type."""
    done = CliRunner().invoke(main, ["runs", "--root", str(root)])
    tip = f"1 run could be judged beside healthy ones of the same task: --reference {root}"
    assert tip in done.stderr
    for asked in (
        ["--format", "json"],
        ["--reference", str(root)],
        ["--filter", "name != stuck"],
        ["--filter", "name != a"],
    ):
        assert "could be judged" not in CliRunner().invoke(main, ["runs", "--root", str(root), *asked]).stderr, asked
    apart = root / "two words"
    apart.mkdir()
    for name in ("a", "b", "c", "stuck"):
        (root / name).rename(apart / name)
    assert CliRunner().invoke(main, ["runs", str(apart)]).stderr.endswith(f"--reference '{apart}'\n")


def test_a_report_says_that_others_of_its_task_lie_beside_it(root: Path) -> None:
    """As text, of a run that nobody is sure of, where three others are of its task; with the option to type.

    One of them that cannot be read is none, and the report is there all the same.
    """

    def told(*asked: str) -> str:
        done = CliRunner().invoke(main, ["report", "--root", str(root), *asked])
        assert done.exit_code == 0
        return done.stderr

    tip = "other runs of Corridor-v0 lie beside this one; to judge it beside those that are healthy: --reference "
    assert told("stuck").endswith(f"{tip}{root}\n")
    for asked in (
        ["a"],
        ["stuck", "--format", "json"],
        ["stuck", "--reference", str(root)],
        ["stuck", "--reference", "other"],  # of another environment, so that it is judged alone
    ):
        assert "lie beside" not in told(*asked), asked
    (root / "c" / "run.json").write_text("{")
    assert "lie beside" not in told("stuck")


def test_two_runs_are_explained_without_references(root: Path) -> None:
    """Nothing is judged then, so the option is refused before anything is read."""
    done = CliRunner().invoke(main, ["explain", "a", "stuck", "--root", str(root), "--reference", "no such run"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--reference is for one run" in done.stderr


@pytest.mark.parametrize("where", ["the folder above", "an empty folder", "a folder of empty folders"])
def test_a_folder_may_have_no_runs_yet(root: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That in which the folder in force will be, for the first run of a sweep in folders, or one that was just made."""
    monkeypatch.chdir(root.parent)
    if where != "the folder above":
        (root.parent / "sweep" / "lr1").mkdir(parents=True)
    under = "sweep/lr1" if where == "the folder above" else root
    named = "sweep/lr1" if where == "an empty folder" else "sweep"
    settings = with_references([named], under)
    assert (settings.references, settings.references_in) == ((), (named,))
    with pytest.raises(NotARunError):
        with_references(["sweeps"], under)


@pytest.mark.parametrize("wrong", [None, 3, ["a"]])
def test_a_reference_that_is_no_name_is_refused_in_a_line(wrong: Any) -> None:
    """It is shown with what was expected."""
    with pytest.raises(UsageError, match=r"^a reference is a path, a URL, or a name .* found (None|3|\['a'\])$"):
        with_references([wrong])
