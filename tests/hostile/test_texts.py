"""Texts in somebody else's run: whatever they hold, a terminal, a log and a CI see plain characters."""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tests.hostile.folders import FILES, RANK, edit_json, refit, reseal
from tests.hostile.ground import ANOTHER, Ground, call
from tests.hostile.server import Answer, Call

from esper_schemas.segment.active import RowLayout, SegmentIdentity

pytestmark = pytest.mark.hostile

NASTY = (
    "\x1b[31mred\x1b]0;title\x07\n::error::owned\r\n  ::add-mask::x\n##[error]owned\t\x00\x7f\x9b31m\x85"
    "\u200b\u200d\u202e\u2066\u2028\u2029\ufeff\U000e0041%0A::warning::owned"
)
"""Escapes, line breaks of all kinds, commands of a CI, C1 controls, bidirectional and invisible characters."""

NASTY_NAME = "r\x1b[31m\n::error::x\r\x9b1m\u202e\u200b"
"""As much of it as a folder's name, in which `call` also looks for a slash, may be."""


def _header(**values: object) -> Callable[[Path], None]:
    return lambda run: edit_json(run / "run.json", **values)


def _attempts(run: Path) -> None:
    for path in (run / RANK / "attempts").iterdir():
        edit_json(path, reason=NASTY, last_drop_reason=NASTY, status="failed", host=NASTY, started=NASTY, ended=NASTY)


def _status(run: Path) -> None:
    edit_json(run / FILES["last attempt"], status=NASTY)


def _repair(run: Path) -> None:
    path = run / FILES["repair record"]
    path.parent.mkdir()
    losses = [{"first_seq": 90, "last_seq": 99, "cause": NASTY}]
    path.write_text(json.dumps({"repair": 0, "repaired": NASTY, "losses": losses, "done": [NASTY]}))


def _foreign(run: Path) -> None:
    for name in ("segments", "active", "seals", "attempts"):
        (run / RANK / name / NASTY_NAME).write_bytes(b"what is this")
    (run / NASTY_NAME).mkdir()


def _bad_records(run: Path) -> None:
    edit_json(run / FILES["seal"], sha256=NASTY, extras=[NASTY])
    edit_json(run / FILES["first attempt"], rows=NASTY)


def _bad_header(run: Path) -> None:
    (run / "run.json").write_text(NASTY)


def _wrong_kind(run: Path) -> None:
    edit_json(run / "run.json", world_size=NASTY)


def _extras(run: Path) -> None:
    layout = RowLayout.create(SegmentIdentity("good", 0, 1, 1, 3), [NASTY])
    row = {"seq": 3, "update": 3, "policy_loss": 0.5, "value_loss": 0.5, NASTY: 1.0}
    message = layout.encoder(row).encode([row[name] for name in layout.columns if name in row])
    (run / FILES["active file"]).write_bytes(layout.header + message)
    path = run / FILES["sealed file"]
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column(NASTY, table.column("value_loss")), path)
    reseal(run, extras=[NASTY])


def _segments(run: Path) -> None:
    layout = RowLayout.create(SegmentIdentity(NASTY.replace("\x00", ""), 0, 1, 1, 3))
    (run / FILES["active file"]).write_bytes(layout.header)
    path = run / FILES["sealed file"]
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, "esper.run_id": NASTY}), path)
    reseal(run)


def _black_box(run: Path) -> None:
    path = run / FILES["black box"]
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column(NASTY, table.column("value_loss")), path)
    refit(run, trigger=NASTY, reason=NASTY, written=NASTY)


def _bad_black_boxes(run: Path) -> None:
    for number in (6, 7):
        for name in ("black box", "record of a black box"):
            path = run / FILES[name]
            shutil.copy(path, path.with_stem(f"{number:08d}"))
    record = run / FILES["record of a black box"]
    edit_json(record, run_uuid=NASTY)
    edit_json(record.with_stem("00000006"), seq=6, sha256=NASTY)
    edit_json(record.with_stem("00000007"), seq=NASTY)
    for suffix in ("parquet", "json", "parquet.tmp"):
        (record.parent / f"00000005-{NASTY_NAME}.{suffix}").write_bytes(b"what is this")


def _black_box_of_a_type(run: Path) -> None:
    path = run / FILES["black box"]
    table = pq.read_table(path, partitioning=None)
    metadata = {**table.schema.metadata, b"esper.rank": NASTY.encode()}
    pq.write_table(table.rename_columns([NASTY, *table.column_names[1:]]).replace_schema_metadata(metadata), path)
    refit(run)


def _checkpoint(name: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        content = torch.load(run / "checkpoint.pt", weights_only=True)
        if name in content["config"]:
            content["config"][name] = NASTY
        elif name == "key":
            content["config"][NASTY] = 1
        else:
            content[name] = NASTY
        torch.save(content, run / "checkpoint.pt")

    return make


PLACES: dict[str, Callable[[Path], None]] = {
    "run id": _header(run_id=NASTY),
    "trainer": _header(trainer=NASTY, env=NASTY, device=NASTY, host=NASTY, git_commit=NASTY),
    "config": _header(config={NASTY: NASTY, "deep": {NASTY: [NASTY, {NASTY: NASTY}]}, "seed": NASTY}),
    "definition": _header(value_loss_definition={"source": NASTY, "clipping": NASTY, NASTY: NASTY}),
    "versions": _header(versions={NASTY: NASTY}, created=NASTY, run_uuid=NASTY),
    "format": _header(format=NASTY),
    "newer format": _header(format=99, run_id=NASTY),
    "attempts": _attempts,
    "status": _status,
    "repair record": _repair,
    "foreign files": _foreign,
    "bad records": _bad_records,
    "bad header": _bad_header,
    "header of a wrong kind": _wrong_kind,
    "extras": _extras,
    "segments": _segments,
    "black box": _black_box,
    "bad black boxes": _bad_black_boxes,
    "column of a black box": _black_box_of_a_type,
    "checkpoint: env": _checkpoint("env"),
    "checkpoint: gamma": _checkpoint("gamma"),
    "checkpoint: device": _checkpoint("device"),
    "checkpoint: key": _checkpoint("key"),
}

FORMS = {
    "report": ("text", "json", "html", "markdown"),
    "check": ("text", "json", "junit", "github"),
    "compare": ("text", "json"),
    "explain": ("text", "json"),
    "explain two runs": ("text", "json"),
    "verify": ("text", "json"),
}
OTHERS = ("runs", "tail", "tail --once", "replay", "record", "repair", "train")


def faults_in(answer: Answer) -> Iterator[str]:
    """What a command wrote that acts on a terminal, hides from a reader, or is a command to a CI."""
    bad = {char for char in answer.said if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n", "\t"}
    if bad:
        yield f"{answer.name} writes {sorted(bad)!a}"
    lines = answer.out.splitlines()
    if "github" in answer.call:
        form = r"::(error|warning|notice) title=esper-check%3A \w+ of [^:,]*::.*"
        if "##[" in answer.out or not all(re.fullmatch(form, line) for line in lines):
            yield f"{answer.name} writes {lines!a}"
        lines = []
    if injected := [line for line in [*lines, *answer.err.splitlines()] if line.lstrip().startswith("::")]:
        yield f"{answer.name} writes {injected!a}"
    if "json" in answer.call and answer.out:
        json.loads(answer.out)
        if not answer.out.isascii():
            yield f"{answer.name} writes JSON that is not ASCII"


def check_plain(*answers: Answer) -> None:
    """Commands wrote plain text only."""
    found = [fault for answer in answers for fault in faults_in(answer)]
    assert not found, "\n".join(found)


def check_all(ground: Ground, run: Path, *further: Call) -> None:
    """Every command in every format writes plain text about a run."""
    calls = [call(command, run, "--format", form) for command, forms in FORMS.items() for form in forms]
    calls += further or [call(command, run) for command in OTHERS]
    answers = ground.ask(*calls)
    ground.check(*answers)
    check_plain(*answers)


@pytest.mark.parametrize("place", PLACES)
def test_texts_of_a_run_are_shown_as_plain_characters(ground: Ground, place: str) -> None:
    """Whatever text somebody put into a run, no command passes on what is not a plain character."""
    run = ground.copy()
    PLACES[place](run)
    check_all(ground, run)


@pytest.mark.parametrize("name", [NASTY_NAME, os.fsdecode(b"run-\xff\xfe"), "::error::owned", "-rf", "$(id)`id`"])
def test_name_of_a_run_is_shown_as_plain_characters(ground: Ground, name: str) -> None:
    """A run's folder may be called anything."""
    run = ground.copy(name)
    edit_json(run / "run.json", run_id="good")
    check_all(ground, run)


def test_name_of_a_folder_of_runs_is_shown_as_plain_characters(ground: Ground) -> None:
    """The folder of runs may be called anything, too, and may hold nothing."""
    (root := ground.folder / NASTY_NAME).mkdir()
    (ground.folder / ANOTHER).rename(root / "sound")
    run = ground.copy().rename(root / "good")
    (root / "another").symlink_to(ground.folder)
    check_all(ground, run, call("runs", run), call("repair", run), call("record", run), call("train", run))
    check_all(ground, root / "none", call("runs", root / "none" / "x"), call("train", root / NASTY_NAME))


def test_imported_texts_are_shown_as_plain_characters(ground: Ground) -> None:
    """Keys, events, hyper-parameters and the name of an imported log are somebody else's texts."""
    events = [{"event_type": "TRAINING_STARTED", "data": {NASTY: NASTY, "task": NASTY, "device": NASTY}}]
    events += [{"event_type": NASTY, "data": {NASTY: NASTY}}]
    for batch in range(3):
        values = {"batch": batch, "policy_loss": 0.1, "value_loss": 0.2, NASTY: 1.0, f"{NASTY}text": NASTY}
        stamp = f"2025-12-06T00:{batch:02d}:00+00:00"
        events.append({"event_type": "PPO_UPDATE_COMPLETED", "timestamp": stamp, "data": values})
    file = ground.folder / f"{NASTY_NAME}.events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events) + f"{NASTY}\n")
    run = ground.folder / "imported" / "run"
    command = ("esper-rec", "import", file, "--out", run.parent)
    answers = ground.ask((*command, "--run-id", run.name), command, ("esper-rec", "import", run, "--out", run.parent))
    ground.check(*answers)
    check_plain(*answers)
    assert answers[0].code == 0
    check_all(ground, run)
