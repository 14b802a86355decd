"""The verdict on a run now: three questions, answered apart, and one level with the reasons for it, the worst first.

Do the mechanics work? Does the critic explain what can be explained? Does the outcome rise, hold, fall, or not move?
The answers are made from the alerts in force. Each contributes its level, but none worse than its rule allows. Critical
means that somebody should stop this run. One value beyond a threshold does not decide it, and neither does the ratio
Lv/Lp. Alerts that are over do not count. What could not be judged is unknown, and the verdict says what to record.

A reason is data, `Reason`. Its sentences are for people; no code decides by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from esper_analyzer.judging.alerts import MISSING_UPDATES
from esper_analyzer.judging.course import LEARNING_UPDATES
from esper_analyzer.judging.goal import GoalCourse
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.reference import ReferenceCourse
from esper_analyzer.judging.rules.rule import QUESTIONS, Question, Rule
from esper_analyzer.judging.standing import (
    FEW_RETURNS,
    has_no_number,
    is_about_where_it_began,
    not_risen,
    outcome,
    standing_of_critic,
)
from esper_analyzer.reading.gaps import missing_count
from esper_analyzer.wording import compact, missing
from esper_schemas.metric.catalogue import EPISODE_RETURN, SLIDING_RETURN
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
class Answer:
    """The answer to one question of the verdict.

    Attributes:
        level: the worst that the rules of this question give; unknown if none of them could be judged.
        since: first of the updates that gave the level; None if no rule is broken.
        reason: what was found, in a sentence; for unknown, what is missing.
    """

    level: Level
    since: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class NotJudged:
    """A rule of a question that was not judged.

    Attributes:
        rule: its name.
        needs: the columns that it needs and that were never measured, the best one where one of several is enough;
            empty if only more updates are needed, or something to explain.
    """

    rule: str
    needs: list[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Level of a run and why.

    Attributes:
        level: the level.
        reasons: the findings as one or two sentences each, with the rank in front if there are several ranks.
        findings: the reasons, the worst first; of several ranks, the worst rank first. Remarks are last.
        questions: the answers by the name of the question; of several ranks, those of the worst rank.
        judged: names of the rules that could be judged.
        not_judged: the others of those that answer a question, with what they need.
    """

    level: Level
    reasons: list[str] = field(init=False)
    findings: list[Reason]
    questions: dict[Question, Answer] = field(default_factory=dict)
    judged: list[str] = field(default_factory=list)
    not_judged: list[NotJudged] = field(default_factory=list)

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
        stride: the step from one update to the next, which tells how many updates are missing.
        dropped: number of rows that the recorder dropped.
        damage: number of faults that are damage.
        remarks: remarks to add to the verdict, for example about an assumed definition of the value loss.
        value_clip: by how much an update may move a predicted value, on the scale of the value targets, if the value
            loss is clipped; else None.
        is_goal_published: whether the goal of the return is that of Gymnasium's registry, which nobody has declared.
    """

    missing: Sequence[tuple[int, int]] = ()
    dropped: int = 0
    damage: int = 0
    remarks: Sequence[str] = ()
    stride: int = 1
    value_clip: float | None = None
    is_goal_published: bool = False


def conclude(judge: Judge, facts: RunFacts) -> Verdict:
    """Return the verdict on a run whose rows the judge has seen."""
    broken = _broken(judge, facts)
    findings = [*(reason for _, reason in broken), *_data(facts)]
    state = _state(judge)
    if not broken or state.level == "unknown":  # else the alerts describe the state of the run
        findings.append(state)
    findings.sort(key=lambda finding: worst_first(finding.level))
    said = [*_remedies(judge), *_causes(judge, facts), *facts.remarks] if judge.has_losses else []
    return Verdict(
        findings[0].level,
        findings + remarks(said),
        {question: _answer(judge, question, broken) for question in QUESTIONS},
        [rule.name for rule in judge.judged],
        _not_judged(judge),
    )


def level_in_force(judge: Judge, facts: RunFacts) -> Level:
    """Return only the level of the verdict, without the work of wording its reasons."""
    levels: list[Level] = [_decided(judge, *key) for key in judge.in_force]
    levels += ["warning"] if facts.missing or facts.dropped or facts.damage else []
    levels.append("healthy" if _can_be_healthy(judge) else "unknown")
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


def _can_be_healthy(judge: Judge) -> bool:
    """Whether enough was judged to call a run healthy: critic or outcome, after the time that both are given.

    A run whose outcome is measured, and is about where it began, is not known to be healthy, whatever its critic says.
    """
    if not judge.has_losses or judge.rows < LEARNING_UPDATES or is_about_where_it_began(judge):
        return False
    return judge.has_judged("critic", "learning")


def _state(judge: Judge) -> Reason:
    """Describe the state of the run if no rule is broken."""
    if not judge.rows:
        return _no_rule("unknown", STATE, "Nothing has been recorded yet.")
    if not judge.has_losses:
        return _no_rule("unknown", STATE, "No loss has been measured.")
    if _can_be_healthy(judge):
        return _no_rule("healthy", STATE, standing_of_critic(judge))
    if judge.rows < LEARNING_UPDATES:
        text = f"Only {judge.rows} update{'s' * (judge.rows != 1)} so far"
        return _no_rule("unknown", STATE, f"{text}; critic and outcome are judged from {LEARNING_UPDATES} on.")
    if judge.has_judged("learning"):
        few = judge.measured_now("return_start") is None
        return _no_rule("unknown", STATE, f"The outcome is unknown. {not_risen(judge)}" if few else not_risen(judge))
    return _no_rule("unknown", STATE, "Neither the critic nor the outcome could be judged.")


def _answer(judge: Judge, question: Question, broken: Sequence[tuple[Rule, Reason]]) -> Answer:
    """Answer one question."""
    found = sorted(
        (reason for rule, reason in broken if rule.question == question), key=lambda one: worst_first(one.level)
    )
    if found:
        since = min(one.since for one in found if one.level == found[0].level and one.since is not None)
        return Answer(found[0].level, since, found[0].said)
    if not judge.has_judged(question):
        return Answer("unknown", None, _lacking(judge, question))
    if question == "mechanics":
        return Answer("healthy", None, "Losses are finite, and updates are applied.")
    if question == "learning" and is_about_where_it_began(judge):
        return Answer("unknown", None, not_risen(judge))
    if question == "critic" and has_no_number(judge):
        return Answer("unknown", None, standing_of_critic(judge))
    return Answer("healthy", None, standing_of_critic(judge) if question == "critic" else outcome(judge))


def _lacking(judge: Judge, question: Question) -> str:
    """Say why a question was not answered."""
    if not judge.rows:
        return "Nothing has been recorded yet."
    measured = judge.measured
    rules = [rule for rule in judge.rules if rule.question == question and rule.is_asked]
    if any(not rule.lacks(measured) for rule in rules):
        if question == "learning":
            return FEW_RETURNS
        if judge.rows < LEARNING_UPDATES:
            return f"Not judged yet: needs {LEARNING_UPDATES} updates."
        return "Not judged: there was nothing that a critic could explain."
    return f"Not judged: needs {_NEEDED[question]}."


_NEEDED: dict[Question, str] = {
    "mechanics": "value_loss or policy_loss",
    "critic": "explained_variance or return_std",
    "learning": "episode_return_mean",
}


def _not_judged(judge: Judge) -> list[NotJudged]:
    judged, measured = {rule.name for rule in judge.judged}, judge.measured
    return [
        NotJudged(rule.name, rule.lacks(measured))
        for rule in judge.rules
        if rule.question is not None and rule.is_asked and rule.name not in judged and _applies(judge, rule)
    ]


def _applies(judge: Judge, rule: Rule) -> bool:
    """Whether a rule says anything of the run: one on the way to a goal, or beside references, needs these."""
    if _is_of_reference(rule):
        return bool(judge.references)
    return judge.return_goal is not None or not _is_of_goal(rule)


def _is_of_goal(rule: Rule) -> bool:
    return rule.name in GoalCourse.NAMES


def _is_of_reference(rule: Rule) -> bool:
    return rule.name in ReferenceCourse.NAMES


def _remedies(judge: Judge) -> list[str]:
    """Say what to record, so that a question that was not answered can be."""
    if judge.rows < LEARNING_UPDATES:
        return []
    measured, found = judge.measured, []
    if not measured & {"explained_variance", "return_std"}:
        found.append("Whether the critic learns cannot be judged; record return_std or explained_variance.")
    if not measured & {EPISODE_RETURN, SLIDING_RETURN}:
        found.append("Whether the policy learns cannot be judged; record episode_return_mean.")
    return found


_FAR_BELOW = 0.1
"""A clip of the value loss that is smaller than this share of the usual spread of the targets makes a critic lag."""


def _causes(judge: Judge, facts: RunFacts) -> list[str]:
    """Name what makes a critic lag, if the numbers show it."""
    if facts.value_clip is None or judge.rows < LEARNING_UPDATES:
        return []
    usual, scale = judge.measured_now("usual_return_std"), judge.measured_now("value_target_scale")
    if usual is None:
        return []
    spread = usual / scale if scale else usual
    if facts.value_clip >= _FAR_BELOW * spread:
        return []
    return [
        f"The clip of the value loss lets a predicted value move by {compact(facts.value_clip)} per update, while the "
        f"value targets spread by {compact(spread)}, so that the critic lags. Scale the rewards, or clip wider."
    ]


def _broken(judge: Judge, facts: RunFacts) -> list[tuple[Rule, Reason]]:
    """Return each rule with an alert that counts, and the finding, in the order of the rules."""
    found: list[tuple[Rule, Reason]] = []
    values = judge.values()
    for position, rule in enumerate(judge.rules):
        episode = judge.in_force.get((position, 2)) or judge.in_force.get((position, 1))
        if episode is None or rule.gives[episode.severity - 1] == "healthy":
            continue
        level = rule.gives[episode.severity - 1]
        text = episode.describe(values[rule.name], judge.last_update)
        now = judge.measured_now("return_now")
        if _is_of_goal(rule) and judge.return_goal is not None and now is not None:
            whose = f"the goal is {judge.return_goal:g}"
            if facts.is_goal_published:
                whose = f"in Gymnasium it counts as solved from {judge.return_goal:g} on"
            text += f" It is {compact(now)}, and {whose}."
        if _is_of_reference(rule):
            text += _beside_references(judge, rule)
        found.append((rule, Reason(level, rule.name, rule.metric, None, episode.since, text, rule.meaning)))
    levels = {rule.name: reason.level for rule, reason in found if _is_of_reference(rule)}
    if levels.get("below_reference") in ("critical", levels.get("far_below_reference")):  # it says the same, and more
        found = [one for one in found if one[0].name != "far_below_reference"]
    return found


def _beside_references(judge: Judge, rule: Rule) -> str:
    """Say where the run is, and where its references were, as far as a rule on them asks for it."""
    is_of_critic = rule.question == "critic"
    columns = ("explained_now", "reference_explained") if is_of_critic else ("return_now", "reference_level")
    ours, theirs = (judge.measured_now(name) for name in columns)
    if ours is None or theirs is None:
        return ""
    is_now = f"Explained variance is {ours:.3g}" if is_of_critic else f"It is {compact(ours)}"
    had = f"{theirs:.3g}" if is_of_critic else compact(theirs)
    return f" {is_now}, and they have had {had} or more since half of its age."


def beside(verdict: Verdict, question: Question) -> str:
    """Return what to show beside the level of an answer: since when, or the reason; empty where a finding has it."""
    answer = verdict.questions[question]
    if answer.level in ("warning", "critical"):
        return f"since update {answer.since}"
    if verdict.level == "healthy":  # then the only finding is how the first of these stands
        stands: tuple[Question, ...] = ("critic", "learning")
        stated = next((name for name in stands if verdict.questions[name].level == "healthy"), None)
        return "" if question == stated else answer.reason
    return answer.reason


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


def _data(facts: RunFacts) -> list[Reason]:
    found: list[Reason] = []
    if facts.missing:
        count = missing_count(facts.missing, facts.stride)
        text = f"{count} update{_s(count)} {_are(count)} missing: {missing(facts.missing, facts.stride, 3)}."
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
