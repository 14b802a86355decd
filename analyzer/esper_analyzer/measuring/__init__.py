"""From rows to numbers: levels, trends, summaries, and the course of a metric over a whole run."""
