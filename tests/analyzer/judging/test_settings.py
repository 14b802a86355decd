from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from esper_analyzer import find_settings, open_run, read_settings
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.measuring.levels import level_of
from esper_schemas.errors import UsageError
from esper_schemas.metric.metrics import Limit
from esper_schemas.metric.payload import METRICS

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[[str], Settings]:
    """Settings from a file with this text."""

    def read(text: str) -> Settings:
        path = tmp_path / "thresholds.toml"
        path.write_text(text, encoding="utf-8")
        return read_settings(path)

    return read


def test_what_is_not_mentioned_stays(settings_of: Callable[[str], Settings]) -> None:
    """A bound that is given replaces its level's bounds; the other level, other metrics and NaN stay as they were."""
    settings = settings_of('[thresholds.value_loss]\ncritical = "> 30"')
    bands, default = settings.thresholds["value_loss"], METRICS["value_loss"].bands
    assert default is not None
    assert bands.critical == (Limit(">", 30.0),)
    assert (bands.warning, bands.nonfinite) == (default.warning, "critical")
    others = {name: value for name, value in settings.thresholds.items() if name != "value_loss"}
    assert others == {name: value for name, value in DEFAULT_SETTINGS.thresholds.items() if name != "value_loss"}
    assert [rule.name for rule in settings.rules] == list(RULES)
    assert settings.source is not None


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("> 5", (Limit(">", 5.0),)),
        ("  >=5  ", (Limit(">=", 5.0),)),
        ("> 5 or < 0.001", (Limit(">", 5.0), Limit("<", 0.001))),
        ("<= -1e-3  or  > 1E3", (Limit("<=", -0.001), Limit(">", 1000.0))),
        ("", ()),
        ("   ", ()),
    ],
)
def test_bounds_are_written_as_the_table_writes_them(
    settings_of: Callable[[str], Settings], text: str, limits: tuple[Limit, ...]
) -> None:
    """Comparisons joined by `or`; an empty text is no bound."""
    assert settings_of(f'[thresholds.entropy]\nwarning = "{text}"').thresholds["entropy"].warning == limits


def test_the_tables_own_bounds_can_be_read_back(settings_of: Callable[[str], Settings]) -> None:
    """What the table's documentation prints for a level is a text that the file takes, with the same meaning."""
    for name, bands in DEFAULT_SETTINGS.thresholds.items():
        text = " or ".join(map(str, bands.warning)), " or ".join(map(str, bands.critical))
        read = settings_of(f'[thresholds.{name}]\nwarning = "{text[0]}"\ncritical = "{text[1]}"').thresholds[name]
        assert (read.warning, read.critical, read.only_if) == (bands.warning, bands.critical, bands.only_if)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[threshold.value_loss]", "has no key 'threshold'; did you mean 'thresholds'?"),
        ("[thresholds.value_los]", "thresholds has no key 'value_los'; did you mean 'value_loss'?"),
        ("[thresholds.my_own_metric]", "thresholds has no key 'my_own_metric'"),
        ("[thresholds.value_mean]", "thresholds has no key 'value_mean'"),
        ('[thresholds.value_loss]\nwarn = "> 5"', "thresholds.value_loss has no key 'warn'; did you mean 'warning'?"),
        ("[thresholds.value_loss]\nwarning = 5", "thresholds.value_loss.warning must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = ["> 5"]', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "5"', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "== 5"', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "> 5 and < 8"', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "> 5 or"', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "> nan"', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "> inf"', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "> 1e999"', "must be bounds such as"),
        ('[thresholds.value_loss]\nwarning = "> 1e"', "must be bounds such as"),
        ("thresholds = 5", "thresholds must be a table, found 5"),
        ("[thresholds]\nvalue_loss = '> 5'", "thresholds.value_loss must be a table, found '> 5'"),
        ("[thresholds.value_loss", "is not TOML"),
        ("[[[" * 2000, "is not TOML"),
        ("x = " + "9" * 5000, "is not TOML"),
    ],
)
def test_what_means_nothing_is_an_error(settings_of: Callable[[str], Settings], text: str, said: str) -> None:
    """The file, the key and what was expected are named in one line."""
    with pytest.raises(UsageError) as raised:
        settings_of(text)
    assert said in str(raised.value)
    assert "thresholds.toml" in str(raised.value)
    assert len(str(raised.value)) < 2000


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """No file, a folder, or bytes that are no text: each an error that names it."""
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path, said in ((tmp_path / "absent.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=said):
            read_settings(path)
    with pytest.raises(UsageError, match=r"binary\.toml is not TOML"):
        read_settings(tmp_path / "binary.toml")


def test_a_conditional_band_keeps_its_condition(
    settings_of: Callable[[str], Settings], record: Callable[..., Path]
) -> None:
    """A bound of value_std counts only where the values lie close together, as before; column by column and live."""
    settings = settings_of('[thresholds.value_std]\ncritical = "< 0.03"')
    together, apart = {"value_min": 0.0, "value_max": 0.05}, {"value_min": 0.0, "value_max": 5.0}
    assert level_of("value_std", 0.02, together, settings.thresholds) == "critical"
    assert level_of("value_std", 0.02, apart, settings.thresholds) == "healthy"
    assert level_of("value_std", 0.02, together) == "healthy"
    for values, level in ((together, "critical"), (apart, "healthy")):
        path = record([{"update": update, "value_std": 0.02, **values} for update in range(30)], f"run-{level}")
        report = open_run(path, settings=settings).report()
        assert report.metrics["value_std"].health.level == level
        assert any(alert.metric == "value_std" for alert in report.alerts) is (level == "critical")


def test_a_signal_has_thresholds_too(settings_of: Callable[[str], Settings], record: Callable[..., Path]) -> None:
    """Bounds of a signal change the verdict that it decides."""
    row = {"value_loss": 0.2, "return_std": 1.0, "value_std": 0.08, "explained_variance": 0.6}
    path = record([{"update": update, **row} for update in range(60)])
    assert open_run(path).report().verdict.level == "healthy"
    strict = settings_of('[thresholds.critic_error]\ncritical = "> 0.3"')
    assert open_run(path, settings=strict).report().verdict.level == "warning"
    strict = settings_of('[thresholds.explains_nothing]\ncritical = "< 0.7"')
    assert open_run(path, settings=strict).report().verdict.level == "critical"


def test_no_bounds_at_all(settings_of: Callable[[str], Settings], record: Callable[..., Path]) -> None:
    """Empty bounds silence a metric; a value that is not finite stays critical."""
    settings = settings_of('[thresholds.value_loss]\nwarning = ""\ncritical = ""')
    path = record([{"update": update, "value_loss": 900.0} for update in range(60)])
    report = open_run(path, settings=settings).report()
    assert report.metrics["value_loss"].health.level == "healthy"
    assert not [alert for alert in report.alerts if alert.metric == "value_loss"]
    assert level_of("value_loss", math.nan, thresholds=settings.thresholds) == "critical"


# ---------------------------------------------------------------------- pyproject.toml


def test_the_nearest_pyproject_that_has_our_table(tmp_path: Path) -> None:
    """Files without the table are passed over; the nearest with it counts, and is not mixed with those above."""
    inner = tmp_path / "package" / "src"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.esper.thresholds.entropy]\nwarning = "< 1"')
    (tmp_path / "package" / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["esper-recorder"]')
    found = find_settings(inner)
    assert found.source == tmp_path / "pyproject.toml"
    assert found.thresholds["entropy"].warning == (Limit("<", 1.0),)
    (inner / "pyproject.toml").write_text('[tool.esper.thresholds.value_loss]\nwarning = "> 9"')
    found = find_settings(inner)
    assert found.source == inner / "pyproject.toml"
    assert found.thresholds["entropy"] == METRICS["entropy"].bands


def test_no_thresholds_anywhere(tmp_path: Path) -> None:
    """Without a file, and with a table that sets nothing, the defaults are in force and no file is named."""
    assert find_settings(tmp_path) is DEFAULT_SETTINGS
    for text in ("", "tool = 5", "[tool.ruff]", "[tool.esper]", "[tool.esper.thresholds]"):
        (tmp_path / "pyproject.toml").write_text(text)
        assert find_settings(tmp_path) is DEFAULT_SETTINGS


@pytest.mark.parametrize("text", ["[project", "name = \xff", "[tool.esper_other]\nx = "])
def test_a_broken_pyproject_of_somebody_else_warns(tmp_path: Path, text: str) -> None:
    """It is named in one line and passed over: the search goes on above it."""
    (tmp_path / "pyproject.toml").write_text('[tool.esper.thresholds.entropy]\nwarning = "< 1"')
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(text, encoding="latin-1")
    said: list[str] = []
    assert find_settings(inner, warn=said.append).source == tmp_path / "pyproject.toml"
    assert len(said) == 1
    assert str(inner / "pyproject.toml") in said[0]
    with pytest.warns(UserWarning, match="is not TOML"):
        find_settings(inner)


@pytest.mark.parametrize(
    "text",
    [
        '[tool.esper.thresholds.value_loss]\nwarning = "> 5',
        "[tool.esper.thresholds.value_los]",
        '[tool.esper]\nthreshold = "x"',
        "[tool]\nesper = 5",
        '[tool . esper . thresholds]\nvalue_loss = "> 5',
    ],
)
def test_a_broken_table_of_ours_is_an_error(tmp_path: Path, text: str) -> None:
    """Thresholds that were meant for us are never passed over."""
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        find_settings(tmp_path)


def test_a_pyproject_that_was_named_must_have_our_table(tmp_path: Path) -> None:
    """Who points at a file expects thresholds in it."""
    (tmp_path / "pyproject.toml").write_text("[project]")
    with pytest.raises(UsageError, match=r"expected a table \[tool\.esper\.thresholds\.NAME\]"):
        read_settings(tmp_path / "pyproject.toml")


def test_folders_that_may_not_be_looked_into(tmp_path: Path) -> None:
    """A `pyproject.toml` that is a folder, or cannot be read, stops nobody."""
    (tmp_path / "pyproject.toml").mkdir()
    assert find_settings(tmp_path) is DEFAULT_SETTINGS


@pytest.mark.parametrize(("owner", "of_folder", "counts"), [(4711, 0, False), (4711, 4711, True), (0, 4711, True)])
def test_a_pyproject_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, of_folder: int, counts: bool
) -> None:
    """Above the working folder only files of the user, of root and of the folder's owner count; others are named."""
    above, folder = tmp_path / "pyproject.toml", tmp_path / "inner"
    above.write_text('[tool.esper.thresholds.value_loss]\ncritical = "> 1000"')
    folder.mkdir()
    owners, stat = {above: owner, folder: of_folder}, Path.stat

    def _stat(path: Path, **options: Any) -> os.stat_result:
        found = stat(path, **options)
        if path not in owners:
            return found
        fields = list(found)
        fields[4] = owners[path]
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", _stat)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    said: list[str] = []
    found = find_settings(folder, warn=said.append)
    assert found.source == (above if counts else None)
    assert said == ([] if counts else [f"{above} belongs to another user; skipped in the search for thresholds"])


def test_the_file_of_thresholds_is_in_the_output(record: Callable[..., Path], command: Command, tmp_path: Path) -> None:
    """What a check or a report went by stands in it, in each format, and not only on standard error."""
    path = record([{"update": update} for update in range(3)])
    (tmp_path / "pyproject.toml").write_text('[tool.esper.thresholds.value_loss]\ncritical = "> 30"')
    where = str(tmp_path / "pyproject.toml")
    for name, form in [
        ("check", "text"),
        ("check", "junit"),
        *(("report", form) for form in ("text", "markdown", "html")),
    ]:
        out = command(name, "--run", path, "--format", form, cwd=tmp_path).stdout
        as_read = "".join(out.split()).replace("\\_", "_")  # Markdown escapes those at the edge of a word
        assert where in as_read, (name, form)
    for name in ("check", "report"):
        assert json.loads(command(name, "--run", path, "--format", "json", cwd=tmp_path).stdout)["thresholds"] == where
        assert json.loads(command(name, "--run", path, "--format", "json").stdout)["thresholds"] is None


# ---------------------------------------------------------------------- every place that judges


def test_a_changed_threshold_shows_everywhere(record: Callable[..., Path], command: Command, tmp_path: Path) -> None:
    """Report (text and JSON), tail (frame and lines), replay, list and check all go by it, and say which file."""
    path = record([{"update": update, "value_loss": 3.0, "explained_variance": 0.9} for update in range(60)])
    file = tmp_path / "mine.toml"
    file.write_text('[thresholds.value_loss]\nwarning = "> 1"\ncritical = "> 2.5"\n')
    run = ["--run", str(path)]

    def both(*arguments: str | Path) -> tuple[str, str]:
        plain = command(*arguments, cwd=tmp_path)
        changed = command(*arguments, "--thresholds", file, cwd=tmp_path)
        assert "thresholds:" not in plain.stderr
        assert changed.stderr.splitlines()[0] == f"thresholds: {file}"
        return plain.stdout, changed.stdout

    one, other = (json.loads(text) for text in both("report", *run, "--format", "json"))
    assert one["metrics"]["value_loss"]["health"]["level"] == "healthy"
    assert other["metrics"]["value_loss"]["health"]["level"] == "critical"
    assert (one["verdict"]["level"], other["verdict"]["level"]) == ("healthy", "critical")
    assert any("> 2.5" in alert["message"] for alert in other["alerts"])

    before, after = both("report", *run)
    assert any(line.split()[:2] == ["V.Loss", "3.000"] for line in before.splitlines())
    row = next(line for line in after.splitlines() if line.startswith("  V.Loss"))
    assert row.endswith("critical")
    assert next(line for line in before.splitlines() if line.startswith("  V.Loss")).endswith("healthy")

    before, after = both("tail", "--once", *run)
    assert "limits > 5 or < 0.001, then > 20" in before
    assert "limits > 1, then > 2.5" in after
    assert "2.5┤┈" in after
    assert "2.5┤┈" not in before
    assert next(line for line in after.splitlines() if line.startswith("  V.Loss")).endswith("critical")
    assert "Verdict  critical" in after

    for name in ("tail", "replay"):
        before, after = both(name, *run)
        assert {line.split()[4] for line in before.splitlines()} == {"healthy"}
        assert {line.split()[4] for line in after.splitlines()} == {"critical"}

    before, after = both("runs", "--root", path.parent)
    assert "healthy" in before
    assert "critical" in after

    record([{"update": update, "value_loss": 3.0, "explained_variance": 0.9} for update in range(60)], "other")
    one, other = (json.loads(text) for text in both("compare", "run", "other", "--format", "json"))
    assert {entry["verdict"] for entry in one["runs"]} == {"healthy"}
    assert {entry["verdict"] for entry in other["runs"]} == {"critical"}

    one, other = (json.loads(text) for text in both("check", *run, "--format", "json", "--gate", "value_loss"))
    assert (one["outcome"], other["outcome"]) == ("passed", "failed")
    assert (one["thresholds"], other["thresholds"]) == (None, str(file))
    assert other["gates"]["value_loss"]["level"] == "critical"


def test_the_remark_low_belongs_to_the_tables_bounds(
    record: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    """A user's own bounds of the value loss end the remark, on screen and in the report."""
    path = record([{"update": update, "value_loss": 0.005} for update in range(12)])
    file = tmp_path / "mine.toml"
    file.write_text('[thresholds.value_loss]\nwarning = "> 1"\n')
    for name in (["report"], ["tail", "--once"]):
        assert "healthy, low" in command(*name, "--run", path, cwd=tmp_path).stdout
        changed = command(*name, "--run", path, "--thresholds", file, cwd=tmp_path).stdout
        assert "V.Loss" in changed
        assert "healthy, low" not in changed


def test_pyproject_is_found_from_the_current_folder(
    record: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    """The commands look from where they are run, name the file, and end with 2 on a wrong key."""
    path = record([{"update": update, "value_loss": 3.0, "explained_variance": 0.9} for update in range(60)])
    (tmp_path / "project" / "deep").mkdir(parents=True)
    file = tmp_path / "project" / "pyproject.toml"
    file.write_text('[tool.esper.thresholds.value_loss]\ncritical = "> 2.5"\n')
    done = command("check", "--run", path, cwd=tmp_path / "project" / "deep")
    assert done.returncode == 1
    assert done.stderr == f"thresholds: {file}\n"
    assert command("check", "--run", path, cwd=tmp_path).returncode == 0
    file.write_text('[tool.esper.thresholds.value_loss]\ncritcal = "> 2.5"\n')
    done = command("report", "--run", path, cwd=tmp_path / "project")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'critical'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    file.write_text("[project")
    done = command("report", "--run", path, cwd=tmp_path / "project")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: ")
    assert len(done.stderr.splitlines()) == 1


def test_rules_and_levels_agree_on_any_bounds(settings_of: Callable[[str], Settings]) -> None:
    """The judge holds a number against a user's bounds exactly as the level of the metric does, bounds included."""
    texts = ["> 5", ">= 5", "< 5", "<= 5", "> 5 or < -5", ">= 5 or <= -5", "> 0 or > 9", ""]
    values = [-5.1, -5.0, -1.0, 0.0, 4.9, 5.0, 5.1, 9.0, 9.1, math.nan, math.inf]
    for warning in texts:
        for critical in texts:
            settings = settings_of(f'[thresholds.kl_divergence]\nwarning = "{warning}"\ncritical = "{critical}"')
            rule = next(rule for rule in settings.rules if rule.name == "kl_divergence")
            judge = Judge([replace(rule, hold=(1, 1), clear=1, from_row=0)])
            blank = {name: pl.Series([None], dtype=READ_TYPES[name]) for name in judge.columns}
            for update, value in enumerate(values):
                row = {**blank, "update": pl.Series([update]), "kl_divergence": pl.Series([value])}
                judge.advance(pl.DataFrame(row))
                severity = max((severity for _, severity in judge.in_force), default=0)
                level = level_of("kl_divergence", value, thresholds=settings.thresholds)
                assert ("healthy", "warning", "critical")[severity] == level, (warning, critical, value)
