"""The command `fleet`: thousands of runs judged by an engine, the worst first, and their groups of seeds."""
