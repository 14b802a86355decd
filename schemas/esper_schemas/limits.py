"""The version of the format, and the limits that every writer and reader keeps to; see FORMAT.md."""

from __future__ import annotations

FORMAT_VERSION = 1

MAX_SEGMENT_BYTES = 128 * 1024 * 1024
"""Largest size of an active file, and of an unpacked sealed one. Readers refuse a larger file to bound memory."""

MAX_COLUMNS = 2048
"""Most columns of a segment. Readers refuse a file that declares more."""

MAX_NAME_BYTES = 255
"""Longest name of a metric, in UTF-8. Readers refuse a black box with a longer one."""

MAX_SEQ = 2**62
"""Largest sequence number. Real ones stay far below it, and the sum of two never overflows an int64."""

MAX_ATTEMPTS = 100_000
"""Largest number of an attempt. Readers refuse a segment with a larger one."""
