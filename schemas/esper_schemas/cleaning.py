"""`printable` makes text of a run safe to show: nothing in it can act on a terminal, a log or a page."""

from __future__ import annotations

import re
import unicodedata

_ACTS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are escaped: controls, formats (bidirectional marks, zero-width characters), surrogates,
private and unassigned code points, line and paragraph separators."""

MAX_SHOWN = 4000
"""Most characters of a text that are shown."""

_COMMAND = re.compile(r"::|##(?=\[)")
"""Commands in the logs of continuous integration: `::error::`, `##[error]`. They count only at the start of a line,
but wrapping can start a line anywhere."""


def printable(text: str) -> str:
    r"""The text as one line that is safe to show.

    Characters that can act become escapes: a newline `\n`, an escape `\x1b`, a mark that reverses the reading direction
    `\u202e`. Letters of any language, combining marks and symbols stay as they are. The start of a command in the logs
    of continuous integration is escaped too: `\x3a:error\x3a:`. A very long text is cut to its beginning.
    """
    if len(text) > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}… ({len(text) - MAX_SHOWN:,} more characters)"
    if not (text.isascii() and text.isprintable()):
        text = "".join(_escaped(char) if unicodedata.category(char) in _ACTS else char for char in text)
    return _COMMAND.sub(lambda match: f"\\x{ord(match[0][0]):02x}{match[0][1:]}", text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def short(value: object) -> str:
    """A value as one line of at most 60 ASCII characters, for an error that says what was found."""
    try:
        text = " ".join(ascii(value).split())
    except Exception:  # a value's own repr may fail; the error must still be a clear one
        return "(not printable)"
    return text if len(text) <= 60 else text[:57] + "..."
