"""The version of the format, and the bounds that every writer and reader keeps; see FORMAT.md."""

from __future__ import annotations

FORMAT_VERSION = 1

MAX_SEGMENT_BYTES = 128 * 1024 * 1024
"""No segment is larger, active or unpacked. A larger one is not read, so that no file can use up the memory."""

MAX_COLUMNS = 2048
"""No segment has more columns: a file that declares more is not read."""

MAX_SEQ = 2**62
"""No sequence number that is really one comes near it; sums of those below it never overflow."""

MAX_ATTEMPTS = 100_000
"""No run is resumed so often; a segment of a later attempt is no segment of ours."""
