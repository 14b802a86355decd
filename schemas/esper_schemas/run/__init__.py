"""The run folder: its file names, its JSON records, and the one module that opens its files."""
