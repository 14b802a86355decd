"""The one function through which text of a run reaches people: nothing in it acts on a terminal, a log or a page."""

from __future__ import annotations

import re
import unicodedata

_ACTS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, formats (bidirectional marks, characters of no width), surrogates, private and unassigned code points,
separators of lines and paragraphs."""

MAX_SHOWN = 4000
"""Characters of one text that are shown."""

_COMMAND = re.compile(r"::|##(?=\[)")
"""What the logs of continuous integration take for a command at the beginning of a line, which wrapping may make of any
place: `::error::`, `##[error]`."""


def printable(text: str) -> str:
    r"""The text as one line that is safe to show: characters that are no letter, mark, sign or space become escapes.

    A newline is shown as `\n`, an escape as `\x1b`, a mark that turns the direction of reading as `\u202e`. Letters of
    any language, combining marks and symbols stay as they are; only what begins a command in the logs of continuous
    integration is broken: `\x3a:error\x3a:`. Of a very long text the beginning is shown.
    """
    if len(text) > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}… ({len(text) - MAX_SHOWN:,} more characters)"
    if not (text.isascii() and text.isprintable()):
        text = "".join(_escaped(char) if unicodedata.category(char) in _ACTS else char for char in text)
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0][0]):02x}{found[0][1:]}", text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
