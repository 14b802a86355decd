"""Imports logs of other trainers as runs: one module per source, `run_import` for any source, and the command."""
