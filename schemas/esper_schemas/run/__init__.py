"""The run folder: names and JSON of everything in it, and the one door to its files."""
