"""The verdict on a run now: is the critic learning? One level, and the reasons for it, the worst first.

The verdict is made from the alerts in force. Each contributes its level, but none worse than its rule allows. One
value beyond a threshold does not decide it, and neither does the ratio Lv/Lp. Alerts that are over do not count.

A reason is data, `Reason`. Its sentences are for people; no code decides by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from esper_analyzer.judging.alerts import MISSING_UPDATES
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.rules import LEARNING_UPDATES, WARM_UP_UPDATES
from esper_schemas.metric.levels import severity_of
from esper_schemas.metric.metrics import Level

STATE = "state"
DROPPED_ROWS = "dropped_rows"
DAMAGE = "damage"
REMARK = "remark"
"""With `MISSING_UPDATES`, the names in `Reason.rule` of reasons that no rule gives."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of a verdict.

    Attributes:
        level: what it contributes to the verdict; unknown for a remark, which contributes nothing.
        rule: name of the broken rule; else `state` (the state of the critic), `missing_updates`, `dropped_rows`,
            `damage` or `remark`.
        metric: the metric or signal that the rule watches; None without a rule.
        rank: the rank that it is about, if the verdict is on several ranks; else None.
        since: the first of the updates beyond the bound that raised the alert; None without a rule.
        text: what was found.
        meaning: what that usually means, and what to look at; may be empty.
    """

    level: Level
    rule: str
    metric: str | None
    rank: int | None
    since: int | None
    text: str
    meaning: str = ""

    @property
    def said(self) -> str:
        """Text and meaning, as one or two sentences."""
        return f"{self.text} {self.meaning}" if self.meaning else self.text


@dataclass(frozen=True, slots=True)
class Verdict:
    """Level of a run and why.

    Attributes:
        level: the level.
        reasons: the findings as one or two sentences each, with the rank in front if there are several ranks.
        findings: the reasons, the worst first; of several ranks, the worst rank first. Remarks are last.
    """

    level: Level
    reasons: list[str] = field(init=False)
    findings: list[Reason]

    def __post_init__(self) -> None:
        said = [one.said if one.rank is None else f"Rank {one.rank}: {one.said}" for one in self.findings]
        object.__setattr__(self, "reasons", said)

    @property
    def since(self) -> int | None:
        """First update of the oldest finding that gives the verdict its level; None if no rule gives it."""
        found = (one.since for one in self.findings if one.level == self.level and one.since is not None)
        return min(found, default=None)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the verdict needs to know besides the rows.

    Attributes:
        missing: ranges of missing updates.
        dropped: number of rows that the recorder dropped.
        damage: number of faults that are damage.
        remarks: remarks to add to the verdict, for example about an assumed definition of the value loss.
    """

    missing: Sequence[tuple[int, int]] = ()
    dropped: int = 0
    damage: int = 0
    remarks: Sequence[str] = ()


def conclude(judge: Judge, facts: RunFacts) -> Verdict:
    """Return the verdict on a run whose rows the judge has seen."""
    alerts = _alerts(judge)
    findings = [*alerts, *_data(facts)]
    state = _state(judge)
    if not alerts or state.level == "unknown":  # else the alerts describe the state of the critic
        findings.append(state)
    findings.sort(key=lambda finding: worst_first(finding.level))
    return Verdict(findings[0].level, findings + (remarks(facts.remarks) if judge.has_losses else []))


def level_in_force(judge: Judge, facts: RunFacts) -> Level:
    """Return only the level of the verdict, without the work of wording its reasons."""
    levels: list[Level] = [_decided(judge, *key) for key in judge.in_force]
    levels += ["warning"] if facts.missing or facts.dropped or facts.damage else []
    levels.append("healthy" if judge.has_losses and judge.rows > WARM_UP_UPDATES else "unknown")
    return min(levels, key=worst_first)


def remarks(texts: Iterable[str]) -> list[Reason]:
    """Make findings from the remarks on a run."""
    return [_no_rule("unknown", REMARK, text) for text in texts]


def worst_first(level: Level) -> int:
    """Return a sort key that puts the worst level first, and unknown last."""
    return -severity_of(level)


def _decided(judge: Judge, rule: int, severity: int) -> Level:
    """Return the level that an episode contributes to the verdict; unknown if none."""
    given = judge.rules[rule].gives[severity - 1]
    return "unknown" if given == "healthy" else given


def _no_rule(level: Level, name: str, text: str) -> Reason:
    """Make a finding that does not come from a rule."""
    return Reason(level, name, metric=None, rank=None, since=None, text=text)


def healthy_rank(rank: int) -> Reason:
    """Make the finding for a healthy rank among others that are not healthy."""
    return Reason("healthy", STATE, metric=None, rank=rank, since=None, text="healthy.")


def _state(judge: Judge) -> Reason:
    """Describe the state of the run if no rule is broken."""
    if not judge.rows:
        return _no_rule("unknown", STATE, "Nothing has been recorded yet.")
    if not judge.has_losses:
        return _no_rule("unknown", STATE, "No loss has been measured.")
    if judge.rows <= WARM_UP_UPDATES:
        text = f"Only {judge.rows} update{'s' * (judge.rows != 1)} so far"
        return _no_rule("unknown", STATE, f"{text}; thresholds apply after the first {WARM_UP_UPDATES}.")
    waits = f" What a critic explains is judged from {LEARNING_UPDATES} updates on."
    return _no_rule("healthy", STATE, _standing(judge) + (waits if judge.rows < LEARNING_UPDATES else ""))


def _alerts(judge: Judge) -> list[Reason]:
    """Return the finding of each rule with an alert that counts, in the order of the rules."""
    found: list[Reason] = []
    values = judge.values()
    for position, rule in enumerate(judge.rules):
        episode = judge.in_force.get((position, 2)) or judge.in_force.get((position, 1))
        if episode is None or rule.gives[episode.severity - 1] == "healthy":
            continue
        level = rule.gives[episode.severity - 1]
        text = episode.describe(values[rule.name], judge.last_update)
        found.append(Reason(level, rule.name, rule.metric, None, episode.since, text, rule.meaning))
    return found


def grouped(findings: Iterable[Reason]) -> list[tuple[str, Reason]]:
    """Merge the findings that several ranks have in common, at the position of the last one.

    Returns:
        For each finding its prefix, such as "Ranks 0, 3: " or "", and the finding without its rank.
    """
    ranks: dict[Reason, set[int]] = {}
    for finding in findings:
        common = replace(finding, rank=None)
        ranks[common] = ranks.pop(common, set()) | ({finding.rank} if finding.rank is not None else set())
    return [
        (f"Rank{'s' * (len(of) > 1)} {', '.join(map(str, sorted(of)))}: " if of else "", common)
        for common, of in ranks.items()
    ]


def _standing(judge: Judge) -> str:
    """Describe the state of the critic in one sentence."""
    values = judge.values()
    error, explained = values.get("critic_error"), values.get("explained_where_varied")
    at = f"at update {judge.last_update}"
    if error is not None:
        text = f"The critic's squared error is {100 * error:.3g} % of the usual variance of its targets {at}"
        measured = judge.measured("explained_variance")
        is_quiet = explained is None and measured is not None and math.isfinite(measured)
        return text + (", where returns vary so little that explained variance says little." if is_quiet else ".")
    if explained is not None:
        return f"Explained variance is {explained:.3g} {at}."
    loss = values.get("unscaled_value_loss")
    if loss is not None:
        return f"Value loss is {loss:.3g} {at}, judged by absolute thresholds since no returns are recorded."
    return f"No rule is broken {at}."


def _data(facts: RunFacts) -> list[Reason]:
    found: list[Reason] = []
    if facts.missing:
        count = sum(last - first + 1 for first, last in facts.missing)
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in facts.missing[:3])
        more = ", …" if len(facts.missing) > 3 else ""
        text = f"{count} update{_s(count)} {_are(count)} missing: {shown}{more}."
        found.append(_no_rule("warning", MISSING_UPDATES, text))
    if facts.dropped:
        text = f"The recorder had to drop {facts.dropped} row{_s(facts.dropped)}."
        found.append(_no_rule("warning", DROPPED_ROWS, text))
    if facts.damage:
        text = f"The run's files are damaged: {facts.damage} fault{_s(facts.damage)}; `esper-rec verify` names each."
        found.append(_no_rule("warning", DAMAGE, text))
    return found


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
