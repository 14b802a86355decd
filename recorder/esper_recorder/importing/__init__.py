"""Logs of other trainers -> runs: one module per source, one that records what a source gives, one for the command."""
