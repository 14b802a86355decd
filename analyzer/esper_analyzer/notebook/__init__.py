"""A run in a notebook: its display, its plots, a cell that follows it."""
