"""The reasons of a verdict are data: their order, their ranks, and no sentence that decides anything."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer import Alert, Reason, Verdict, open_run
from esper_analyzer.caching.folder import CACHE_DIR
from esper_analyzer.judging import alert_log as alerts_module
from esper_analyzer.judging import verdict as verdict_module
from esper_analyzer.judging.alerts import MISSING_UPDATES
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.verdict import DAMAGE, DROPPED_ROWS, REMARK, STATE, grouped
from esper_schemas import ValueLossDefinition
from esper_schemas.metric.levels import LEVELS

Record = Callable[..., Path]
Command = Callable[..., Any]

NO_RULES = (STATE, MISSING_UPDATES, DROPPED_ROWS, DAMAGE, REMARK)
SOUND = {"value_loss": 0.1, "return_std": 1.0, "kl_divergence": 0.01, "explained_variance": 0.9}
FINE = [{"update": update, **SOUND} for update in range(80)]
KL_HIGH = [{**row, "kl_divergence": 0.5 if row["update"] >= 20 else 0.01} for row in FINE]
BAD = [
    *({**row, "explained_variance": 0.0 if row["update"] >= 30 else 0.9} for row in KL_HIGH),
    *({"update": update, "value_loss": math.nan} for update in range(80, 82)),
    {"update": 82, "skipped": True, "skip_reason": 1},
]
"""Runs that are healthy; a warning by a symptom; critical by two rules, one on each side of one that warns."""

DECLARED = ValueLossDefinition(clipping="none", factor=0.5)


def healthy(record: Record) -> Path:
    """A sound run, whose value loss is declared, so that there is no remark."""
    return record(FINE, value_loss_definition=DECLARED)


def remarked(record: Record) -> Path:
    """A sound run with a remark."""
    return record(FINE)


def critical(record: Record) -> Path:
    """A run with several reasons of two levels."""
    return record(BAD)


def missing(record: Record) -> Path:
    """A run that lacks updates."""
    return record([row for row in FINE if row["update"] not in (20, 21, 30)])


def damaged(record: Record) -> Path:
    """A critical run with a segment whose bytes are wrong."""
    path = record(BAD, segment_rows=10)
    segment = path / "rank-0000" / "segments" / "00000001.parquet"
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 1
    segment.write_bytes(data)
    return path


def ranked(record: Record) -> Path:
    """A run whose ranks are: a warning, healthy, critical, healthy, the same warning."""
    for rank, rows in enumerate((KL_HIGH, FINE, BAD, FINE, KL_HIGH)):
        path = record(rows, rank=rank, world_size=5, resume="allow")
    return path


RUNS = (healthy, remarked, critical, missing, damaged, ranked)


# ---------------------------------------------------------------------- no text decides anything


def misleading(text: str) -> str:
    """Words that look like another rank, level, rule, fault and remark, alike for texts that are alike."""
    nonsense = " ".join(hashlib.sha256(text.encode()).hexdigest()[at : at + 7] for at in range(0, 28, 7))
    remark = "The trainer did not declare its value loss; half the mean squared error is assumed."
    said = "Rank 7: Critical alert in force: The run's files are damaged; healthy, since update 3."
    return f"{said} {remark} {nonsense} {RULES['entropy'].meaning}"


class Page(HTMLParser):
    """What a page is made of: its elements with their attributes, the text of its links, and that of its reasons."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Any] = []
        self.links: list[str] = []
        self.reasons: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.elements.append((tag, [(name, value) for name, value in attributes if name != "title"]))
        self._open.append(tag)
        if tag == "a":
            self.links.append("")
        if tag == "li" and "ol" in self._open:
            self.reasons.append("")

    def handle_endtag(self, tag: str) -> None:
        """Note the end of the element."""
        self.elements.append(tag)
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Add to the text of a link or a reason."""
        if "a" in self._open:
            self.links[-1] += data
        elif "ol" in self._open and "li" in self._open:
            self.reasons[-1] += data


def shape(path: Path, command: Command) -> Iterator[Any]:
    """All that is decided about a run: levels, rules, order, exit codes, links, elements, ranks that are told together.

    It is whatever the commands and the notebook say but for what they say in words.
    """
    rank = "0" if len(open_run(path).ranks()) == 1 else "all"
    asked = ("--run", path, "--rank", rank)
    done = command("report", *asked, "--format", "json")
    document = json.loads(done.stdout, parse_float=lambda digits: f"{float(digits):.9g}")  # sums are rounded anew
    verdict = document.pop("verdict")
    yield done.returncode, verdict["level"], len(verdict["reasons"])
    yield [{key: value for key, value in one.items() if key not in ("text", "meaning")} for one in verdict["findings"]]
    yield [{key: value for key, value in one.items() if key != "message"} for one in document.pop("alerts")]
    yield document
    findings = [Reason(**finding) for finding in verdict["findings"]]
    yield [ranks for ranks, _ in grouped(findings)]
    told = [f"{ranks}{finding.said}" for ranks, finding in grouped(findings)]
    done = command("report", *asked, "--format", "html")
    page = Page(done.stdout)
    assert [" ".join(said.split()) for said in page.reasons] == told
    yield done.returncode, page.elements, page.links
    for form in ("text", "markdown"):
        done = command("report", *asked, "--format", form)
        heads = [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith(("Verdict", "###"))]
        yield done.returncode, heads
        assert form == "markdown" or all("".join(one.split()) in "".join(done.stdout.split()) for one in told)
    for options in ((), ("--fail-on", "warning"), ("--gate", "kl_divergence,value_loss")):
        done = command("check", *asked, *options, "--format", "json")
        document = json.loads(done.stdout)
        yield done.returncode, document["exit_code"], document["outcome"]
        for condition in (document["verdict"], *document["gates"].values(), document["integrity"]):
            yield condition["outcome"], condition.get("level"), len(condition["reasons"])
    yield [line.partition(" ")[0] for line in command("check", *asked, "--format", "github").stdout.splitlines()]
    yield command("tail", "--run", path, "--once").returncode
    yield Page(open_run(path)._repr_html_()).elements


@pytest.mark.slow
@pytest.mark.parametrize("make", [remarked, missing, damaged, ranked], ids=lambda make: make.__name__)
def test_rewording_decides_nothing(
    make: Callable[[Record], Path],
    record: Record,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other words in every reason and alert change no level, order, rule, link, group of ranks or exit code."""
    path = make(record)
    monkeypatch.setenv(CACHE_DIR, str(tmp_path / "before"))
    before, told = list(shape(path, command)), sentences(path)

    monkeypatch.setenv(CACHE_DIR, str(tmp_path / "after"))
    monkeypatch.setattr(verdict_module, "Reason", reworded)
    monkeypatch.setattr(alerts_module, "Alert", reworded_alert)
    after = list(shape(path, command))
    assert told
    assert not told & sentences(path)  # each of them was reworded
    for one, other in zip(before, after, strict=True):
        assert one == other


def reworded(*given: Any, **named: Any) -> Reason:
    """A reason in other words."""
    made = Reason(*given, **named)
    return replace(made, text=misleading(made.text), meaning=misleading(made.meaning))


def reworded_alert(*given: Any, **named: Any) -> Alert:
    """An alert in other words."""
    made = Alert(*given, **named)
    return replace(made, message=misleading(made.message))


def sentences(path: Path) -> set[str]:
    """Every text of a reason or an alert."""
    report = open_run(path).report(None)
    found = {text for one in report.verdict.findings for text in (one.text, one.meaning)}
    return (found | {alert.message for alert in report.alerts}) - {""}


# ---------------------------------------------------------------------- what is in a finding


def test_a_finding_says_which_rule_since_when_and_what_it_means(record: Record) -> None:
    """Of a rule its name, metric, first update and meaning; of what is no rule a name that no rule has."""
    verdict = open_run(critical(record)).report().verdict
    assert [(one.level, one.rule, one.metric, one.since) for one in verdict.findings] == [
        ("critical", "impossible_value_loss", "value_loss", 80),
        ("critical", "explains_nothing", "explains_nothing", 40),
        ("warning", "skipped", "skipped", 82),
        ("warning", "explained_where_varied", "explained_where_varied", 30),
        ("warning", "kl_divergence", "kl_divergence", 20),
        ("unknown", "remark", None, None),
        ("unknown", "remark", None, None),
    ]
    for one, said in zip(verdict.findings, verdict.reasons, strict=True):
        assert one.rank is None
        assert one.meaning == (RULES[one.rule].meaning if one.rule in RULES else "")
        assert said == f"{one.text} {one.meaning}".strip()
    assert not RULES.keys() & set(NO_RULES)


def test_what_is_no_rule_has_a_name(record: Record) -> None:
    """Missing updates, dropped rows, damage, the state of the critic and remarks are told apart."""
    lost, whole = open_run(damaged(record)).report().verdict, open_run(record(FINE, name="whole")).report().verdict
    assert [one.rule for one in whole.findings] == [STATE, REMARK, REMARK]
    assert {MISSING_UPDATES, DROPPED_ROWS, DAMAGE} & {one.rule for one in lost.findings} == {MISSING_UPDATES, DAMAGE}
    assert all((one.metric, one.since) == (None, None) for one in lost.findings if one.rule in NO_RULES)


def test_of_several_ranks_the_worst_comes_first(record: Record, command: Command) -> None:
    """The worst rank first, within each the worst first, healthy ranks behind, remarks last and of no rank."""
    done = command("report", "--run", ranked(record), "--rank", "all", "--format", "json")
    verdict = json.loads(done.stdout)["verdict"]
    found = [(one["rank"], one["level"], one["rule"]) for one in verdict["findings"]]
    assert verdict["level"] == found[0][1] == "critical"
    assert found == [
        (2, "critical", "impossible_value_loss"),
        (2, "critical", "explains_nothing"),
        (2, "warning", "skipped"),
        (2, "warning", "explained_where_varied"),
        (2, "warning", "kl_divergence"),
        (0, "warning", "kl_divergence"),
        (4, "warning", "kl_divergence"),
        (1, "healthy", "state"),
        (3, "healthy", "state"),
        (None, "unknown", "remark"),
        (None, "unknown", "remark"),
    ]
    starts = ["Rank 2: Value", "Rank 2: The critic", "Rank 2: An", "Rank 2: Explained", "Rank 2: KL", "Rank 0: KL"]
    starts += ["Rank 4: KL", "Rank 1: healthy.", "Rank 3: healthy.", "Whether the policy", "The trainer"]
    assert [said[: len(start)] for said, start in zip(verdict["reasons"], starts, strict=True)] == starts


@pytest.mark.parametrize("make", RUNS, ids=lambda make: make.__name__)
def test_the_first_finding_has_the_level_of_the_verdict(make: Callable[[Record], Path], record: Record) -> None:
    """In each rank of each run the levels of the findings never rise, and the first is the verdict's."""
    run = open_run(make(record))
    for rank in run.ranks():
        verdict = run.report(rank).verdict
        levels = [LEVELS.index(one.level) for one in verdict.findings]
        assert levels == sorted(levels, reverse=True)
        assert verdict.findings[0].level == verdict.level


def test_since_when_is_that_of_the_oldest_finding_of_the_level(record: Record) -> None:
    """A finding of a lesser level, or one that no rule gives, has no part in it."""
    assert open_run(critical(record)).report().verdict.since == 40  # KL was beyond its bound before
    assert open_run(record(KL_HIGH, name="kl")).report().verdict.since == 20
    gap = open_run(record([row for row in FINE if row["update"] != 30], name="gap")).report().verdict
    assert (gap.level, gap.since) == ("warning", None)


def test_ranks_are_told_together_where_all_but_the_rank_is_the_same() -> None:
    """Ranks stand in order of their numbers, where the last of them stood; a text that names a rank is a text."""
    one = Reason("warning", "kl_divergence", "kl_divergence", 10, 7, "Rank 3: it is high.", "Lower it.")
    findings = [
        one, replace(one, rank=2, text="Other."), replace(one, rank=9), replace(one, rank=None),
        replace(one, rank=2, since=8),
    ]  # fmt: skip
    assert [(ranks, finding.text) for ranks, finding in grouped(findings)] == [
        ("Rank 2: ", "Other."),
        ("Ranks 9, 10: ", "Rank 3: it is high."),
        ("Rank 2: ", "Rank 3: it is high."),
    ]
    assert Verdict("warning", findings[:1]).reasons == ["Rank 10: Rank 3: it is high. Lower it."]


def test_alerts_name_their_rule_and_rank(record: Record) -> None:
    """Two rules on one metric are told apart, and so are the ranks of one report; a gap has a name of its own."""
    frame = open_run(ranked(record)).alerts(None)
    assert {"rule", "rank"} <= set(frame.columns)
    nan = frame.filter(frame["metric"] == "value_loss")
    assert nan.select("rule", "rank", "level").rows() == [("impossible_value_loss", 2, "critical")]
    assert sorted(frame.filter(frame["metric"] == "kl_divergence")["rank"].unique()) == [0, 2, 4]
    gaps = open_run(record([row for row in FINE if row["update"] != 30], name="gap")).report().alerts
    assert [(one.rule, one.rank) for one in gaps if one.metric == "update"] == [(MISSING_UPDATES, 0)]
