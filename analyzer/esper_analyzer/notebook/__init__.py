"""A run in a notebook: how it shows itself, its plots, a display that follows it."""
