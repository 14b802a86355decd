from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from tests.analyzer.black_box_runs import blown_up, plant

from esper_analyzer import open_run
from esper_analyzer.reporting.markdown import plain, report_markdown
from esper_recorder import Recorder

Record = Callable[..., Path]

HOSTILE = [
    "@octocat look | at `this`",
    "[click](https://evil.example) ![x](https://evil.example/x.png)",
    "https://evil.example www.evil.example a@evil.example #1 GH-1",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "**bold** _soft_ ~~gone~~ $x$",
    "- list",
    "1. list",
    "# heading",
    "> quote",
    "---",
    "line\n\n# heading",
    "&lt;b&gt; &#64;octocat",
    "\\| \\`",
    "\ud800 \u202e \x00",
]


def rendered(markdown: str) -> str:
    """The HTML that a renderer with GitHub's tables makes of it, letting HTML through."""
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def shown(html: str) -> str:
    """What a reader sees, without the spaces of no width."""
    text = re.sub(r"<[^>]*>", "", html).replace("\u200b", "").strip()
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, char)
    return text


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("around", ["- {}", "### {}", "| a |\n| --- |\n| {} |"], ids=["item", "heading", "cell"])
def test_foreign_text_is_shown_as_it_is(text: str, around: str) -> None:
    """No markup, HTML or further cell comes of a hostile text, and a reader sees all of it."""
    html = rendered(around.format(plain(text)))
    expected = set(re.findall(r"<\w+", rendered(around.format("word"))))
    assert set(re.findall(r"<\w+", html)) == expected
    assert html.count("<td") == rendered(around.format("word")).count("<td")
    cleaned = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    assert shown(html).removeprefix("a").strip() == cleaned


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_is_left_that_github_would_link(text: str) -> None:
    """Mentions, references and addresses are parted by a space of no width."""
    html = rendered(plain(text))
    assert not re.search(r"@\w|#\d|://|www\.|GH-\d", html)


def test_a_report_of_a_sick_run_is_short_and_says_why(record: Record) -> None:
    """Verdict, reasons, the main metrics, alerts and the updates line are there, in under 80 lines."""
    rows = [{"update": n, "value_loss": 0.5 if n < 15 else float("nan"), "explained_variance": 0.6} for n in range(40)]
    del rows[7]
    report = open_run(record(rows)).report()
    markdown = report_markdown(report)
    assert markdown.startswith("### ❌ critical since update 15: run\n")
    assert report.verdict.reasons[0].split(" (")[0] in markdown
    assert "| Value loss | NaN (25 not finite) | ✗ not finite | ❌ critical |" in markdown
    assert "| Explained variance | 0.6 | → +0.0% steady | ✅ healthy |" in markdown
    assert "Updates: 39, 1 missing, 0 skipped, 0 dropped, 0 superseded." in markdown
    assert "Update 7 is missing." in markdown
    assert len(markdown.splitlines()) < 80
    assert rendered(markdown).count("<table>") == 2


def test_all_gaps_are_one_alert(record: Record) -> None:
    """However many ranges are missing, one line counts them and names a few."""
    rows = [{"update": n * n, "value_loss": 0.5} for n in range(31)]
    markdown = report_markdown(open_run(record(rows)).report())
    assert (
        "| 4 | ⚠️ warning | Missing updates, 29 times, first at update 4, last at 900; worst 58 at update 900; over"
        in markdown
    )
    assert "870 updates are missing: 2 to 3, 5 to 8, 10 to 15 and 26 more ranges." in markdown
    assert markdown.count("are missing") == 2  # in the verdict, too
    assert len(markdown.splitlines()) < 80


def test_the_minibatches_before_something_broke_are_tables(tmp_path: Path) -> None:
    """The first and the newest black box, each with a line that says what happened."""
    markdown = report_markdown(open_run(blown_up(tmp_path)).report())
    assert "UTC, not finite: value_loss is inf in minibatch 2 (rank-0000/blackbox/00000003.parquet" in markdown
    assert "\n**Moved: value_loss 11.10 → ∞, reward_forward 2.000 → NaN**\n" in markdown
    assert "| update | epoch | minibatch | value_loss | reward_forward | policy_loss |" in markdown
    assert "| 13 | 2 | 2 | ∞ | NaN | -0.3 |" in markdown
    assert rendered(markdown).count("<table>") == 4
    assert len(markdown.splitlines()) < 100


def test_only_a_few_black_boxes_are_listed(record: Record) -> None:
    """Of many there are the first and the newest four; names and reasons in them make no markup."""
    path = record([{"update": update} for update in range(30)])
    for seq in range(30):
        plant(path, seq, {name: [1.0, 2.0] for name in HOSTILE[:5]}, reason=HOSTILE[seq % 5])
    markdown = report_markdown(open_run(path).report())
    assert re.findall(r"^Update (\d+), ", markdown, re.MULTILINE) == ["0", "26", "27", "28", "29"]
    assert "\nand 25 more\n" in markdown
    assert len(markdown.splitlines()) < 100
    html = rendered(markdown)
    assert "<script" not in html
    assert "<a " not in html
    assert not re.search(r"@\w", html)


def test_a_hostile_run_makes_no_markup(tmp_path: Path) -> None:
    """Trainer, environment and device of a run are foreign text."""
    nasty = "| a\n\n<script>x</script> @octocat [y](https://evil.example)"
    with Recorder.open(tmp_path, run_id="nasty", trainer=nasty, env=nasty, device=nasty) as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.5)
    html = rendered(report_markdown(open_run(tmp_path / "nasty").report()))
    assert "<script" not in html
    assert "<a " not in html
    assert "@octocat" not in html


def test_an_empty_run_has_a_report_too(record: Record) -> None:
    """Without rows there is a verdict, and no table."""
    markdown = report_markdown(open_run(record([])).report())
    assert markdown.startswith("### ❔ unknown: run\n")
    assert "no updates yet" in markdown
    assert "| ---" not in markdown
