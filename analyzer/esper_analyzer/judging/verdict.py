"""The verdict on a run now: is the critic learning? One level, and the reasons for it, the worst first.

It is made of the alerts in force: each gives its level, but no worse one than its rule may decide. One value
beyond a threshold decides nothing, and neither does the ratio Lv/Lp. What has been overcome is in the alerts,
and no longer in the verdict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.rules import LEARNING_UPDATES, RULES, WARM_UP_UPDATES, Rule
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import Level

_OF_RANK = re.compile(r"Rank (\d+): ")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Level of a run and why, the worst reason first; each reason is one or two sentences."""

    level: Level
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the verdict needs to know beside the rows.

    Attributes:
        missing: ranges of updates that are not there.
        dropped: rows that the recorder dropped.
        damage: faults that are damage.
        remarks: what is to be said beside the verdict, such as that the definition of the value loss is assumed.
    """

    missing: Sequence[tuple[int, int]] = ()
    dropped: int = 0
    damage: int = 0
    remarks: Sequence[str] = ()


def conclude(judge: Judge, facts: RunFacts) -> Verdict:
    """The verdict on a run whose rows the judge has seen."""
    alerts = _alerts(judge)
    findings = [*alerts, *_data(facts)]
    state = _state(judge)
    if not alerts or state[0] == "unknown":  # else the alerts say how the critic stands
        findings.append(state)
    findings.sort(key=lambda finding: worst_first(finding[0]))
    remarks = facts.remarks if judge.has_losses else ()
    return Verdict(findings[0][0], [*(sentence for _, sentence in findings), *remarks])


def level_in_force(judge: Judge, facts: RunFacts) -> Level:
    """The level of the verdict alone, without the work of wording its reasons."""
    levels: list[Level] = [_decided(judge, *key) for key in judge.in_force]
    levels += ["warning"] if facts.missing or facts.dropped or facts.damage else []
    levels.append("healthy" if judge.has_losses and judge.rows > WARM_UP_UPDATES else "unknown")
    return min(levels, key=worst_first)


def worst_first(level: Level) -> int:
    """Sort key that puts the worst level first, and unknown last."""
    return -severity_of(level)


def _decided(judge: Judge, rule: int, severity: int) -> Level:
    """What an episode gives to the verdict; unknown if nothing."""
    given = judge.rules[rule].gives[severity - 1]
    return "unknown" if given == "healthy" else given


def _state(judge: Judge) -> tuple[Level, str]:
    """What can be said of the run where no rule is broken."""
    if not judge.rows:
        return "unknown", "Nothing has been recorded yet."
    if not judge.has_losses:
        return "unknown", "No loss has been measured."
    if judge.rows <= WARM_UP_UPDATES:
        said = f"Only {judge.rows} update{'s' * (judge.rows != 1)} so far"
        return "unknown", f"{said}; thresholds apply after the first {WARM_UP_UPDATES}."
    waits = f" What a critic explains is judged from {LEARNING_UPDATES} updates on."
    return "healthy", _standing(judge) + (waits if judge.rows < LEARNING_UPDATES else "")


def _alerts(judge: Judge) -> list[tuple[Level, str]]:
    """Level and reason of each rule that decides something, in the order of the rules."""
    found: list[tuple[Level, str]] = []
    values = judge.values()
    for position, rule in enumerate(judge.rules):
        episode = judge.in_force.get((position, 2)) or judge.in_force.get((position, 1))
        if episode is None or rule.gives[episode.severity - 1] == "healthy":
            continue
        said = episode.describe(values[rule.name], judge.last_update)
        found.append((rule.gives[episode.severity - 1], f"{said} {rule.meaning}"))
    return found


def since_when(alerts: Iterable[Alert], level: Level, rules: Iterable[Rule] = RULES.values()) -> int | None:
    """First update of the oldest alert in force that gives a verdict its level; None where there is no such alert."""
    gives = {rule.metric: dict(zip(("warning", "critical"), rule.gives, strict=True)) for rule in rules}
    return min(
        (
            alert.since
            for alert in alerts
            if alert.until is None and level != "healthy" and gives.get(alert.metric, {}).get(alert.level) == level
        ),
        default=None,
    )


def grouped_reasons(reasons: Sequence[str]) -> list[str]:
    """The reasons with those that several ranks have in common said once, where the last of them stood."""
    ranks: dict[str, list[str]] = {}
    for reason in reasons:
        found = _OF_RANK.match(reason)
        said = reason[found.end() :] if found else reason
        ranks[said] = [*ranks.pop(said, []), *([found[1]] if found else [])]
    return [
        f"Rank{'s' * (len(of) > 1)} {', '.join(sorted(of, key=int))}: {said}" if of else said
        for said, of in ranks.items()
    ]


def _standing(judge: Judge) -> str:
    """How the critic stands."""
    values = judge.values()
    error, explained = values.get("critic_error"), values.get("explained_where_varied")
    at = f"at update {judge.last_update}"
    if error is not None:
        said = f"The critic's squared error is {100 * error:.3g} % of the usual variance of its targets {at}"
        measured = judge.measured("explained_variance")
        is_quiet = explained is None and measured is not None and math.isfinite(measured)
        return said + (", where returns vary so little that explained variance says little." if is_quiet else ".")
    if explained is not None:
        return f"Explained variance is {explained:.3g} {at}."
    loss = values.get("unscaled_value_loss")
    if loss is not None:
        return f"Value loss is {loss:.3g} {at}, judged by absolute thresholds since no returns are recorded."
    return f"No rule is broken {at}."


def _data(facts: RunFacts) -> list[tuple[Level, str]]:
    found: list[tuple[Level, str]] = []
    if facts.missing:
        count = sum(last - first + 1 for first, last in facts.missing)
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in facts.missing[:3])
        more = ", …" if len(facts.missing) > 3 else ""
        found.append(("warning", f"{count} update{_s(count)} {_are(count)} missing: {shown}{more}."))
    if facts.dropped:
        found.append(("warning", f"The recorder had to drop {facts.dropped} row{_s(facts.dropped)}."))
    if facts.damage:
        said = f"The run's files are damaged: {facts.damage} fault{_s(facts.damage)}; `esper-rec verify` names each."
        found.append(("warning", said))
    return found


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
