"""The bytes of a segment: written, read, scanned and followed, active and sealed."""
