"""What a result depends on, as one key: the files of a run, what an examination found in them, settings and code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields

from esper_analyzer.caching.code import code_digest
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.rules.rule import Rule
from esper_analyzer.judging.settings import Settings
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.segment_index import SegmentIndex, uses_stored_numbers
from esper_schemas.errors import EsperError, StoreError
from esper_schemas.metric.metrics import Bands
from esper_schemas.run.ending import GOING_ON


def key_of(*parts: object) -> str:
    """Return the sha256, in hexadecimal, of plain data: numbers, text, None, and tuples and lists of them."""
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()


def key_of_judging(settings: Settings) -> str | None:
    """Return the key of what judges: the code, and the thresholds and rules.

    None if nothing may be kept: stored numbers must not be used, the source cannot be read, or a rule is not one of
    the tables with other bounds, and so has parts that cannot be told from others.
    """
    global _newest
    code = code_digest() if uses_stored_numbers() else None
    if code is None:
        return None
    newest = _newest
    if newest is None or newest[0] is not settings:  # those of the tables are the same object in every run
        newest = _newest = settings, _key_of_settings(code, settings)
    return newest[1]


_newest: tuple[Settings, str | None] | None = None
"""The settings that were asked for last, and their key."""


def _key_of_settings(code: str, settings: Settings) -> str | None:
    rules = [_parts_of(rule) for rule in settings.rules]
    if None in rules:
        return None
    bands = sorted((name, repr(bands)) for name, bands in settings.thresholds.items())
    told = (sorted(settings.return_goals.items()), settings.return_goal, repr(settings.references))
    return key_of(code, bands, rules, *told)


def key_of_rows(run: JudgedRun, found: RunIndex, frames_of: RunIndex, *asked: object) -> str | None:
    """Return the key of what is made of the rows of a finished run.

    The segments are named by the sha256 in their seals, which the examination compared with their files. The
    fingerprint of the folder is in the key too: whoever changes a file between the examination and the reading of the
    rows, even if it is changed back later, spoils no other key.

    Args:
        run: the run.
        found: the ranks that were examined at depth `checksums` or `rows`.
        frames_of: the index that the columns of the rows come from, as `RunIndex.frames` takes them.
        asked: plain data: what is made of the rows.

    Returns:
        None if nothing may be kept: see `key_of_judging`; or the run goes on, or has a segment that is not sealed.
    """
    pieces = [piece for index in found.ranks.values() for piece in index.pieces]
    if not uses_stored_numbers() or any(piece.frame is not None or piece.seal is None for piece in pieces):
        return None
    try:
        if any(run.status(rank) in GOING_ON for rank in run.ranks()):
            return None
        with run.directory.open() as folder:
            fingerprint = folder.fingerprint()
    except StoreError:
        raise
    except (EsperError, OSError):
        return None
    judging = key_of_judging(run.settings)
    if fingerprint is None or judging is None:
        return None
    ranks = [(rank, found.damage_of(rank), *_parts_of_rank(index)) for rank, index in found.ranks.items()]
    judged_by = (run.return_goal, [one.run_uuid for one in run.references])
    about = (*judged_by, run.remarks, run.value_clip, repr(found.recording), list(frames_of.schema))
    return key_of(judging, fingerprint.digest, ranks, about, asked)


def _parts_of_rank(index: SegmentIndex) -> Iterable[object]:
    yield index.attempts
    yield index.dropped
    for piece in index.pieces:
        assert piece.seal is not None
        yield (piece.number, piece.attempt, piece.rows, piece.first_seq, piece.last_seq, piece.seal.sha256)
        yield (piece.first_update, piece.last_update, piece.updates_rise, piece.extras)
    for box in index.black_boxes:
        yield (box.name, box.seq, box.attempt, box.written, box.trigger, box.reason, box.minibatches, box.not_written)
        yield None if box.last is None else list(box.last.to_pydict().items())


def _parts_of(rule: Rule) -> list[tuple[str, str]] | None:
    """The parts of a rule that settings can change; None if another part differs from that of the tables."""
    declared = RULES.get(rule.name)
    parts = []
    for field in fields(Rule):
        value = getattr(rule, field.name)
        if isinstance(value, (str, int, float, tuple, Bands)) or value is None:
            parts.append((field.name, repr(value)))
        elif declared is None or value is not getattr(declared, field.name):
            return None
    return parts
