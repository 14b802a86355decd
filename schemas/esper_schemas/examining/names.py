"""Examines the names of the files of one rank: what does not belong there, and what an interrupted writer left."""

from __future__ import annotations

from esper_schemas.errors import RunDamagedError
from esper_schemas.examining.rank_examination import RankExamination
from esper_schemas.run.names import (
    ACTIVE,
    ATTEMPTS,
    BLACK_BOXES,
    LOCK_NAME,
    REPAIRS,
    SEALS,
    SEGMENTS,
    STATES,
    WRITTEN_FOLDERS,
    attempt_name,
    black_box_of,
    numbers_in,
)


def check_names(check: RankExamination) -> None:
    """Report other files: in `segments/` they are damage, since any engine reads all of it; elsewhere a note."""
    in_segments = check.names(SEGMENTS)
    belonging = set(numbers_in(in_segments, ".parquet").values())
    for name in in_segments:
        if name.startswith("."):  # no engine reads it; file managers and sync tools leave such files
            check.say("note", f"{check.storage.where(f'{SEGMENTS}/{name}')} is a hidden file, not an Esper file")
        elif name not in belonging:
            check.misplaced.append(f"{SEGMENTS}/{name}")
            check.say("foreign", f"{check.storage.where(f'{SEGMENTS}/{name}')} does not belong there")
    in_active = check.names(ACTIVE)
    actives = numbers_in(in_active, ".arrows")
    for segment in check.segments:
        if segment.number in actives and not check.writing:
            check.leftovers = True
            what = "beside its sealed one" if segment.is_sealed else "not sealed yet"
            check.say("note", f"active file {what}", segment.number)
    attempts = {attempt_name(number).removeprefix(f"{ATTEMPTS}/") for number in (*check.attempts, *check.bad_attempts)}
    known = {
        ACTIVE: (in_active, set(actives.values())),
        SEALS: (seals := check.names(SEALS), set(numbers_in(seals, ".json").values())),
        STATES: (states := check.names(STATES), set(numbers_in(states, ".json").values())),
        ATTEMPTS: (check.names(ATTEMPTS), attempts),
        BLACK_BOXES: (boxes := check.names(BLACK_BOXES), {name for name in boxes if black_box_of(name)}),
        "": (check.names(""), {*WRITTEN_FOLDERS, BLACK_BOXES, LOCK_NAME, REPAIRS}),
    }
    for folder, (names, own) in known.items():
        for name in names:
            if name not in own and not (name.endswith(".tmp") and check.writing):
                _check_name(check, f"{folder}/{name}" if folder else name)


def _check_name(check: RankExamination, name: str) -> None:
    where = check.storage.where(name)
    if name.endswith(".tmp"):
        check.leftovers = True
        check.say("note", f"{where} is an unfinished file, which no reader uses")
    elif name.endswith(".broken"):
        try:
            check.say("note", f"{where} holds {check.storage.size(name)} bytes that were cut off")
        except (OSError, RunDamagedError):
            check.say("note", f"{where} is not an Esper file")
    else:
        check.say("note", f"{where} is not an Esper file")
