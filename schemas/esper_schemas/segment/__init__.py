"""The bytes of a segment, both directions."""
