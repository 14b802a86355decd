"""What `esper-rec fields` prints: the table of all dialects, or the part of it that has a word."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from esper_recorder.dialects.key import Dialect, Key
from esper_recorder.dialects.table import DIALECTS
from esper_schemas.metric.payload import METRICS

MIN_WIDTH, MAX_WIDTH = 40, 120
"""The table fits every width between; a narrower terminal wraps its lines."""


def select(word: str | None) -> list[tuple[Dialect, list[Key]]]:
    """Return each dialect with the keys that have `word` in their name, column or remark; all keys if the name has it.

    Upper and lower case are the same. Dialects without such a key are left out.
    """
    wanted = (word or "").casefold()
    found = []
    for dialect in DIALECTS:
        is_named = wanted in dialect.name.casefold()
        keys = [
            key for key in dialect.keys if is_named or any(wanted in text.casefold() for text in (*key[:2], key.remark))
        ]
        if keys:
            found.append((dialect, keys))
    return found


def lines(selected: Sequence[tuple[Dialect, list[Key]]], width: int) -> Iterator[str]:
    """Yield the table as lines of at most `width` characters: one dialect after another, one key after another."""
    width = max(MIN_WIDTH, min(width, MAX_WIDTH))
    for place, (dialect, keys) in enumerate(selected):
        if place:
            yield ""
        yield from _wrapped(f"{dialect.name} ({dialect.seen})", width, "", "  ")
        yield from _wrapped(f"value loss: {describe_value_loss(dialect)}", width, "  ", "    ")
        names = max(len(key.name) for key in keys)
        columns = max(len(target(key)) for key in keys)
        is_wide = 2 + names + 2 + columns + 2 + 24 <= width
        for key in keys:
            if is_wide:
                start = f"  {key.name:<{names}}  {target(key):<{columns}}"
                yield from _wrapped(key.remark, width, f"{start}  ", " " * (len(start) + 2))
            else:
                yield from _wrapped(key.name, width, "  ", "    ")
                remark = f"; {key.remark}" if key.remark else ""
                yield from _wrapped(f"{target(key)}{remark}", width, "    → ", "      ")


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    made = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    return made or [first.rstrip()]


def target(key: Key) -> str:
    """What a key becomes, in words: the column, its factor, and whether it is an extra."""
    if key.kind == "again":
        return "not imported"
    factor = "" if key.factor == 1.0 else f" × {key.factor:g}"
    return f"{key.column}{factor}" + ("" if key.column in METRICS else " (extra)")


def describe_value_loss(dialect: Dialect) -> str:
    """What the trainer calls its value loss, what it is multiplied by, and what no log tells."""
    made = dialect.value_loss
    text = f"{made.source}, {made.reduction}, × {made.factor:g}"
    return f"{text}; not in the log: {dialect.unclear}" if dialect.unclear else text


def as_json(selected: Sequence[tuple[Dialect, list[Key]]]) -> list[dict[str, Any]]:
    """The table for scripts: one object for each dialect."""
    return [
        {
            "trainer": dialect.name,
            "seen": dialect.seen,
            "value_loss_definition": {**asdict(dialect.value_loss), "assumed": bool(dialect.unclear)},
            "unclear": dialect.unclear,
            "update_marker": dialect.marker.name,
            "step": dialect.steps,
            "keys": [
                {
                    "key": key.name,
                    "column": key.column or None,
                    "is_extra": key.kind != "again" and key.column not in METRICS,
                    "factor": key.factor,
                    "kind": key.kind,
                    "remark": key.remark,
                }
                for key in keys
            ],
        }
        for dialect, keys in selected
    ]
