"""Computes numbers from rows: levels, trends, summaries, and the course of a metric over a whole run."""
