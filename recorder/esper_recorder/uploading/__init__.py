"""Uploads runs to an object store, finished files only, also while they are recorded."""
