"""Runs side by side: aligned, scored, grouped by seed."""
