"""The check: a report held against a level, for scripts and CI; `check_formats` writes what it found.

    verdict      fails if its level reaches `fail_on`; unknown (too few updates) never fails
    each gate    fails if the metric's last value reaches it by the metric's thresholds, or an alert in force does
    integrity    is worse than a failure where files are damaged; a torn end is no damage

One value of a signal decides nothing, so that only the alerts on it count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.rules import PARTS, Rule
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.judging.verdict import Reason
from esper_analyzer.measuring.snapshot import as_number
from esper_analyzer.measuring.summary import Value
from esper_analyzer.reporting.report import Report, RunSection, UpdatesSection
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

FailOn = Literal["warning", "critical"]
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
    """One thing that a check looks at.

    Attributes:
        name: `verdict`, `integrity`, or the gated metric or signal.
        outcome: `unknown` where there is too little to tell; `damaged` for the integrity only.
        reasons: why, the worst first; one or two sentences each, safe to print.
        level: of the verdict or the metric; None for the integrity.
        value: last value of a gated metric; of several ranks that of the worst one.
        findings: the reasons of the verdict as data; empty for the others.
    """

    name: str
    outcome: Outcome
    reasons: list[str]
    level: Level | None = None
    value: Value = None
    findings: Sequence[Reason] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found.

    Attributes:
        run, updates: of the report.
        fail_on: the level that fails.
        verdict, gates, integrity: what was looked at; the gates in the order in which they were asked for.
        thresholds: file of the user's own thresholds; None if those of the tables were used.
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
        """All that was looked at: the verdict, each gate, the integrity."""
        return [self.verdict, *self.gates, self.integrity]

    @property
    def outcome(self) -> Outcome:
        """Damage before failure; unknown if the verdict is and nothing failed."""
        found = {condition.outcome for condition in self.conditions}
        for outcome in ("damaged", "failed"):
            if outcome in found:
                return outcome
        return self.verdict.outcome

    @property
    def exit_code(self) -> int:
        """0 passed or unknown, 1 failed, 3 damaged."""
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """The document `esper-check/1` as plain dictionaries and lists; NaN and infinities still are floats."""
        return {
            "format": FORMAT,
            "run": {"run_id": self.run.run_id, "path": self.run.path, "status": self.run.status},
            "updates": {"rows": self.updates.rows, "first": self.updates.first, "last": self.updates.last},
            "fail_on": self.fail_on,
            "thresholds": None if self.thresholds is None else str(self.thresholds),
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "verdict": {**_dict(self.verdict, "level"), "findings": [asdict(one) for one in self.verdict.findings]},
            "gates": {gate.name: _dict(gate, "level", "value") for gate in self.gates},
            "integrity": _dict(self.integrity),
        }


def check_report(
    report: Report,
    *,
    fail_on: FailOn = "critical",
    gates: Sequence[str] = (),
    ranks: Mapping[int, Report] | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> Check:
    """Hold a report against a level.

    Args:
        report: on a rank of a run, or on all of them.
        fail_on: the level that fails; a warning includes critical.
        gates: metrics that have thresholds, `loss_ratio`, or signals, to be looked at beside the verdict.
        ranks: where `report` is on all ranks, the report on each of them: what is gated is looked at in each.
        settings: what the reports were made with.

    Raises:
        NotARunError: the run has no updates.
        UsageError: a gate is no such metric, or was never recorded. (On damage neither of the two: it is damage.)
    """
    integrity = _integrity(report)
    for name in gates:
        _know(name, report, settings)
    if not report.updates.rows and integrity.outcome != "damaged":
        raise NotARunError(f"{report.run.path} has no updates yet; check it after its first update")
    by_rank = ranks or {}
    found = [
        _worst([_gate(name, one, fail_on, settings, rank) for rank, one in by_rank.items()])
        if len(by_rank) > 1
        else _gate(name, report, fail_on, settings)
        for name in dict.fromkeys(gates)
    ]
    never = [gate.name for gate in found if gate.value is None and gate.level == "unknown"]
    if never and integrity.outcome != "damaged":
        verb = "was" if len(never) == 1 else "were"
        raise UsageError(f"{', '.join(never)} {verb} never recorded in {report.run.path}; remove it from --gate")
    level, findings = report.verdict.level, report.verdict.findings
    said = [printable(reason) for reason in report.verdict.reasons]
    verdict = Condition("verdict", _outcome(level, fail_on), said, level, findings=findings)
    return Check(report.run, report.updates, fail_on, verdict, found, integrity, settings.source)


def _know(name: str, report: Report, settings: Settings) -> None:
    """Refuse a gate that could never fail."""
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
    alerts = [alert for alert in report.alerts if alert.metric == name and alert.until is None]
    alerts.sort(key=lambda alert: severity_of(alert.level), reverse=True)
    level = max([raw, *(alert.level for alert in alerts)], key=severity_of)
    prefix = "" if rank is None else f"Rank {rank}: "
    reasons = [] if value is None else [prefix + _described(value, raw, str(settings.thresholds[name]))]
    reasons += [prefix + _in_force(alert) for alert in alerts]
    return Condition(name, _outcome(level, fail_on), reasons, level, value)


def _columns_of(rule: Rule) -> set[str]:
    """The metrics that a rule's number is made of."""
    roots = set(rule.value.meta.root_names())
    for parts in reversed(PARTS):
        roots |= {root for name, part in parts.items() if name in roots for root in part.meta.root_names()}
    return roots & set(METRICS)


def _worst(of_ranks: Sequence[Condition]) -> Condition:
    """The worst of one gate in several ranks; one in which it was recorded, if there is one."""
    return max(of_ranks, key=lambda gate: (severity_of(gate.level or "unknown"), gate.value is not None))


def _last(name: str, report: Report, settings: Settings) -> tuple[Value, Level]:
    """Last value and its level; of a signal no value, and unknown only where nothing it is made of was recorded."""
    if name == LOSS_RATIO:
        return report.ratio.last, report.ratio.health.level
    if name in settings.thresholds:
        return report.metrics[name].last, report.metrics[name].health.level
    needs = {column for rule in settings.rules if rule.metric == name for column in _columns_of(rule)}
    optional = [report.metrics[column].last for column in needs if not METRICS[column].required]
    return None, "unknown" if optional and all(value is None for value in optional) else "healthy"


def _described(value: Value, level: Level, bands: str) -> str:
    said = f"The last value is {compact(as_number(value))}, {level}"
    return f"{said} ({bands})." if bands else f"{said}."


def _in_force(alert: Alert) -> str:
    return printable(f"{alert.level.capitalize()} alert in force: {alert.message}")


def _integrity(report: Report) -> Condition:
    faults = sorted(report.integrity.faults, key=lambda fault: not fault.is_damage)
    reasons = [describe_fault(fault) for fault in faults[:MAX_REASONS]]
    reasons += [f"… and {len(faults) - MAX_REASONS} more"] if len(faults) > MAX_REASONS else []
    return Condition("integrity", "damaged" if report.is_damaged else "passed", reasons)


def _outcome(level: Level, fail_on: FailOn) -> Outcome:
    if level == "unknown":
        return "unknown"
    return "failed" if severity_of(level) >= severity_of(fail_on) else "passed"


def _dict(condition: Condition, *names: str) -> dict[str, Any]:
    return {name: getattr(condition, name) for name in (*names, "outcome", "reasons")}
