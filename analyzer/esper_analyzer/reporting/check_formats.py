"""A check as text, JSON, JUnit XML or workflow commands of GitHub Actions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import wrap
from xml.etree import ElementTree

from rich.text import Text

from esper_analyzer.drawing.style import LEVEL_STYLE, Style, fit, to_ascii
from esper_analyzer.options import CheckForm
from esper_analyzer.reporting.check import Check, Condition, Outcome
from esper_analyzer.reporting.text import describe_updates
from esper_analyzer.strict_json import strict
from esper_schemas.cleaning import printable

SUITE = "esper-check"

_OUTCOME_STYLE: Mapping[Outcome, str] = {
    "passed": "green",
    "failed": "bold red",
    "unknown": "dim",
    "damaged": "bold red",
}
_MIN_WIDTH = 20


def summary(check: Check) -> str:
    """Return the check as one line, for example for a log."""
    failed = [condition.name for condition in check.conditions if condition.outcome == "failed"]
    line = f"{check.outcome}: {printable(check.run.run_id)} is {check.verdict.level}, {describe_updates(check.updates)}"
    if check.outcome == "damaged":
        line = f"damaged: {printable(check.run.run_id)} has damaged files, {describe_updates(check.updates)}"
    if failed:
        line += f"; --fail-on {check.fail_on} reached by {', '.join(failed)}"
    if check.outcome == "unknown":
        line += "; a run that cannot be judged does not fail"
    return f"{line}; its status is {check.run.described_ending}" if check.run.end_reason else line


def write_check(check: Check, form: CheckForm, style: Style, width: int) -> str:
    """Return the check in one of the formats, for an output of this style and width in cells."""
    if form == "text":
        return as_text(check, style, width)
    if form == "json":
        return as_json(check)
    if form == "junit":
        return as_junit(check)
    return as_github(check) if style.unicode else to_ascii(as_github(check))


def as_text(check: Check, style: Style, width: int) -> str:
    """Return the summary, then each condition with its reasons, wrapped at `width` cells."""
    width = max(width, _MIN_WIDTH)
    outcome = _OUTCOME_STYLE[check.outcome]
    lines = [Text(line, style=outcome) for line in wrap(summary(check), width - 1, subsequent_indent="  ")]
    if check.thresholds is not None:
        source = f"thresholds from {printable(str(check.thresholds))}"
        lines += [Text(line) for line in wrap(source, width - 1, initial_indent="  ", subsequent_indent="  ")]
    room = max(len(condition.name) for condition in check.conditions)
    for condition in check.conditions:
        line = Text(f"  {condition.name:{room}}  ")
        if condition.level is not None:
            line.append(f"{condition.level:8}", style=LEVEL_STYLE[condition.level]).append("  ")
        line.append(condition.outcome, style=_OUTCOME_STYLE[condition.outcome])
        lines.append(line)
        for reason in condition.reasons:
            wrapped = wrap(reason, width - 1, initial_indent="    - ", subsequent_indent="      ")
            lines += [Text(part) for part in wrapped]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return "".join(f"{line}\n" for line in style.render(lines))


def as_json(check: Check) -> str:
    """Return the document `esper-check/1` as strict JSON in ASCII, which any output can encode."""
    return json.dumps(strict(check.to_dict()), indent=2, allow_nan=False) + "\n"


def as_junit(check: Check) -> str:
    """Return JUnit XML in ASCII with one test case each for the verdict, every gate and the integrity.

    A failed condition is a failure, a damaged one an error, an unknown one skipped. The reasons of a passed condition
    are its output.
    """
    count = [condition.outcome for condition in check.conditions].count
    totals = {
        "tests": str(len(check.conditions)),
        "failures": str(count("failed")),
        "errors": str(count("damaged")),
        "skipped": str(count("unknown")),
        "time": "0",
    }
    root = ElementTree.Element("testsuites", {"name": SUITE, **totals})
    suite = ElementTree.SubElement(root, "testsuite", {"name": f"{SUITE} {printable(check.run.run_id)}", **totals})
    properties = ElementTree.SubElement(suite, "properties")
    facts: dict[str, object] = {"path": check.run.path, "updates": check.updates.rows, "fail_on": check.fail_on}
    facts["status"] = check.run.described_ending
    if check.thresholds is not None:
        facts["thresholds"] = check.thresholds
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": printable(str(value))})
    for condition in check.conditions:
        _test_case(suite, condition, f"{SUITE}.{printable(check.run.run_id)}")
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="us-ascii").decode("ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _test_case(suite: ElementTree.Element, condition: Condition, classname: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"name": condition.name, "classname": classname, "time": "0"})
    reasons = "\n".join(condition.reasons)
    tag = {"failed": "failure", "damaged": "error", "unknown": "skipped", "passed": "system-out"}[condition.outcome]
    if condition.outcome == "passed" and not reasons:
        return
    found = ElementTree.SubElement(case, tag)
    found.text = reasons
    if condition.outcome != "passed":
        found.set("message", _headline(condition))
    if condition.outcome in ("failed", "damaged"):
        found.set("type", condition.level or condition.outcome)


def as_github(check: Check) -> str:
    """Return one workflow command per condition: an error if it failed, a warning at that level, else a notice."""
    lines = []
    for condition in check.conditions:
        kind = "error" if condition.outcome in ("failed", "damaged") else "notice"
        if kind == "notice" and condition.level == "warning":
            kind = "warning"
        title = f"{SUITE}: {condition.name} of {printable(check.run.run_id)}"
        said = [_headline(condition), *condition.reasons]
        if condition is check.verdict and check.run.end_reason:
            said.append(f"The status of the run is {check.run.described_ending}")
        message = "\n".join(said)
        lines.append(f"::{kind} title={_property(title)}::{_data(message)}\n")
    return "".join(lines)


def _headline(condition: Condition) -> str:
    level = "" if condition.level is None else f" ({condition.level})"
    return fit(f"{condition.name} {condition.outcome}{level}", 100)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
