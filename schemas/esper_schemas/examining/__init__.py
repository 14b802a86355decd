"""Finds what is wrong with a run: the one examination that every reader and every repair uses."""
