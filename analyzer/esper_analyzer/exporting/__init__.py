"""Writes the rows of a run into a file that other tools read."""
