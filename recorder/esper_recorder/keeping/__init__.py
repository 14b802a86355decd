"""Keeps recorded rows: lock, durable writes, sealing, recovery, repair."""
