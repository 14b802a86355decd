"""The command `check`: pass or fail a run by its report, for scripts and CI; `check_formats` writes the result.

    verdict      fails if its level reaches `fail_on`; unknown fails only if that is `unknown`
    each gate    fails if the metric's last value reaches `fail_on` by its thresholds, or an alert in force does
    integrity    worse than a failure if files are damaged; a torn end does not count as damage

A single value of a signal decides nothing, so a gate on a signal looks only at its alerts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.rules.rule import Rule
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.judging.verdict import Reason
from esper_analyzer.judging.watched import PARTS
from esper_analyzer.measuring.snapshot import as_number
from esper_analyzer.measuring.summary import Value
from esper_analyzer.options import FailOn
from esper_analyzer.reading.run_index import Ranks, looked_at
from esper_analyzer.reporting.report import Report, build_report, build_reports
from esper_analyzer.reporting.sections import RunSection, UpdatesSection
from esper_analyzer.reporting.text import describe_fault
from esper_analyzer.wording import compact
from esper_schemas.cleaning import printable
from esper_schemas.errors import NotARunError, UsageError
from esper_schemas.exit_codes import ExitCode
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import Level
from esper_schemas.metric.payload import METRICS

FORMAT = "esper-check/1"

Outcome = Literal["passed", "failed", "unknown", "damaged"]

EXIT_CODES: Mapping[Outcome, ExitCode] = {
    "passed": ExitCode.FINE,
    "unknown": ExitCode.FINE,
    "failed": ExitCode.VERDICT,
    "damaged": ExitCode.DAMAGED,
}

MAX_REASONS = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a check, and its outcome.

    Attributes:
        name: `verdict`, `integrity`, or the gated metric or signal.
        outcome: `unknown` if there is too little data; `damaged` only for the integrity.
        reasons: the reasons for the outcome, worst first; one or two sentences each, safe to print.
        level: level of the verdict or the metric; None for the integrity.
        value: last value of a gated metric; with several ranks, the value of the worst one.
        findings: the reasons of the verdict as data; empty for other conditions.
    """

    name: str
    outcome: Outcome
    reasons: list[str]
    level: Level | None = None
    value: Value = None
    findings: Sequence[Reason] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check.

    Attributes:
        run, updates: these sections of the report.
        fail_on: the level that fails.
        verdict, gates, integrity: the conditions; the gates in the order in which the user named them.
        thresholds: file of the user's own thresholds; None for the default thresholds.
    """

    run: RunSection
    updates: UpdatesSection
    fail_on: FailOn
    verdict: Condition
    gates: list[Condition]
    integrity: Condition
    thresholds: Path | None = None

    @property
    def conditions(self) -> list[Condition]:
        """All conditions: the verdict, each gate, the integrity."""
        return [self.verdict, *self.gates, self.integrity]

    @property
    def outcome(self) -> Outcome:
        """Damaged before failed; unknown if the verdict is unknown and nothing failed."""
        outcomes = {condition.outcome for condition in self.conditions}
        for outcome in ("damaged", "failed"):
            if outcome in outcomes:
                return outcome
        return self.verdict.outcome

    @property
    def exit_code(self) -> int:
        """0 for passed or unknown, 1 for failed, 3 for damaged."""
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return the document `esper-check/1` as plain dictionaries and lists; NaN and infinities are still floats."""
        return {
            "format": FORMAT,
            "run": {
                "run_id": self.run.run_id,
                "path": self.run.path,
                "status": self.run.status,
                "end_reason": self.run.end_reason,
                "references": self.run.references,
            },
            "updates": {"rows": self.updates.rows, "first": self.updates.first, "last": self.updates.last},
            "fail_on": self.fail_on,
            "thresholds": None if self.thresholds is None else str(self.thresholds),
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "verdict": {**_dict(self.verdict, "level"), "findings": [asdict(one) for one in self.verdict.findings]},
            "gates": {gate.name: _dict(gate, "level", "value") for gate in self.gates},
            "integrity": _dict(self.integrity),
        }


def check_run(
    run: JudgedRun, ranks: Ranks = "first", *, fail_on: FailOn = "critical", gates: Sequence[str] = ()
) -> Check:
    """Report on the ranks of a run, and check the report against a level.

    Args:
        run: the run.
        ranks: as in `build_report`.
        fail_on: the level that fails; see `check_report`.
        gates: metrics with thresholds, `loss_ratio`, or signals to check in addition to the verdict.

    Raises:
        NotARunError: the run has no updates and no damage, or no such rank.
        UsageError: a gate names no such metric, or one that was never recorded in a run without damage.
        FormatVersionError: a segment was written by a newer Esper.
    """
    by_rank: dict[int, Report] = {}
    if looked_at(ranks) is None and gates:
        report, by_rank = run.read(None, lambda found: build_reports(run, found, ranks))
    else:
        report = run.read(looked_at(ranks), lambda found: build_report(run, ranks, found))
    return check_report(report, fail_on=fail_on, gates=gates, ranks=by_rank, settings=run.settings)


def check_report(
    report: Report,
    *,
    fail_on: FailOn = "critical",
    gates: Sequence[str] = (),
    ranks: Mapping[int, Report] | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> Check:
    """Check a report against a level.

    Args:
        report: the report on one rank of a run, or on all ranks.
        fail_on: the level that fails; `warning` includes critical, and `unknown` everything but healthy.
        gates: metrics with thresholds, `loss_ratio`, or signals to check in addition to the verdict.
        ranks: if `report` is on several ranks, the report on each rank; gates are checked in each.
        settings: the settings that the reports were made with.

    Raises:
        NotARunError: the run has no updates and no damage.
        UsageError: a gate names no such metric, or one that was never recorded in a run without damage.
    """
    integrity = _integrity(report)
    for name in gates:
        _check_gate(name, report, settings)
    by_rank = ranks or {}
    if not report.updates.rows and integrity.outcome != "damaged":
        raise NotARunError(f"{report.run.path} has no updates yet; check it after its first update")
    checked = [
        _worst([_gate(name, one, fail_on, settings, rank) for rank, one in by_rank.items()])
        if len(by_rank) > 1
        else _gate(name, report, fail_on, settings)
        for name in dict.fromkeys(gates)
    ]
    of_ranks = list(by_rank.values()) or [report]
    never = [gate.name for gate in checked if not any(_was_recorded(gate.name, one, settings) for one in of_ranks)]
    if never and integrity.outcome != "damaged":
        verb, them = ("was", "it") if len(never) == 1 else ("were", "them")
        raise UsageError(f"{', '.join(never)} {verb} never recorded in {report.run.path}; remove {them} from --gate")
    level, findings = report.verdict.level, report.verdict.findings
    reasons = [printable(reason) for reason in report.verdict.reasons]
    verdict = Condition("verdict", outcome_of(level, fail_on), reasons, level, findings=findings)
    return Check(report.run, report.updates, fail_on, verdict, checked, integrity, settings.source)


def _check_gate(name: str, report: Report, settings: Settings) -> None:
    """Raise UsageError for a gate that could never fail."""
    known = list(dict.fromkeys([*settings.thresholds, *(rule.metric for rule in settings.rules)]))
    if name in known:
        return
    listed = f"the choices are {', '.join(known)}"
    if name in report.metrics:
        raise UsageError(f"--gate: {name!r} has no thresholds, so it could never fail; {listed}")
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else listed
    raise UsageError(f"--gate: there is no metric or signal {name!r}; {hint}")


def _gate(name: str, report: Report, fail_on: FailOn, settings: Settings, rank: int | None = None) -> Condition:
    value, raw = _last(name, report, settings)
    alerts = [(alert.in_force, alert) for alert in report.alerts if alert.metric == name and alert.in_force is not None]
    alerts.sort(key=lambda one: severity_of(one[0]), reverse=True)
    level = max([raw, *(level for level, _ in alerts)], key=severity_of)
    prefix = "" if rank is None else f"Rank {rank}: "
    reasons = [] if value is None else [prefix + _described(value, raw, str(settings.thresholds[name]))]
    if value is None and name in settings.thresholds and _was_recorded(name, report, settings):
        reasons = [f"{prefix}It was not measured in the last update, {report.updates.last}."]
    reasons += [prefix + _in_force(level, alert) for level, alert in alerts]
    return Condition(name, outcome_of(level, fail_on), reasons, level, value)


def _was_recorded(name: str, report: Report, settings: Settings) -> bool:
    """Whether any update measured a gated metric, or any input of a gated signal."""
    if name == LOSS_RATIO:
        return report.ratio.median is not None or _was_recorded("value_loss", report, settings)
    if name in settings.thresholds:
        return report.metrics[name].nonfinite is not None
    needs = {column for rule in settings.rules if rule.metric == name for column in _columns_of(rule)}
    optional = [report.metrics[column].nonfinite for column in needs if not METRICS[column].required]
    return not optional or any(count is not None for count in optional)


def _columns_of(rule: Rule) -> set[str]:
    """Return the metrics that a rule's number is computed from."""
    roots = {*rule.needs, *rule.value.frame.meta.root_names()}
    for parts in reversed(PARTS):
        roots |= {root for name, part in parts.items() if name in roots for root in part.frame.meta.root_names()}
    return roots & set(METRICS)


def _worst(of_ranks: Sequence[Condition]) -> Condition:
    """Return the worst of one gate's conditions over the ranks, preferring ranks that recorded the metric."""
    return max(of_ranks, key=lambda gate: (severity_of(gate.level or "unknown"), gate.value is not None))


def _last(name: str, report: Report, settings: Settings) -> tuple[Value, Level]:
    """Return last value and level. A signal has no value, and is unknown only if none of its inputs was recorded."""
    if name == LOSS_RATIO:
        return report.ratio.last, report.ratio.health.level
    if name in settings.thresholds:
        return report.metrics[name].last, report.metrics[name].health.level
    return None, "healthy" if _was_recorded(name, report, settings) else "unknown"


def _described(value: Value, level: Level, bands: str) -> str:
    text = f"The last value is {compact(as_number(value))}, {level}"
    return f"{text} ({bands})." if bands else f"{text}."


def _in_force(level: Level, alert: Alert) -> str:
    times = f" ({alert.times})" if alert.count > 1 else ""
    return printable(f"{level.capitalize()} alert in force{times}: {alert.message}")


def _integrity(report: Report) -> Condition:
    faults = sorted(report.integrity.faults, key=lambda fault: not fault.is_damage)
    reasons = [describe_fault(fault) for fault in faults[:MAX_REASONS]]
    reasons += [f"… and {len(faults) - MAX_REASONS} more"] if len(faults) > MAX_REASONS else []
    return Condition("integrity", "damaged" if report.is_damaged else "passed", reasons)


def outcome_of(level: Level, fail_on: FailOn) -> Outcome:
    """Return whether a level fails: `warning` includes critical, and `unknown` everything but healthy."""
    if level == "unknown":
        return "failed" if fail_on == "unknown" else "unknown"
    if fail_on == "unknown":
        return "passed" if level == "healthy" else "failed"
    return "failed" if severity_of(level) >= severity_of(fail_on) else "passed"


def _dict(condition: Condition, *names: str) -> dict[str, Any]:
    return {name: getattr(condition, name) for name in (*names, "outcome", "reasons")}
