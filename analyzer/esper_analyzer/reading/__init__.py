"""Reads a run from disk: its files, the rows that count, and the updates that are missing."""
