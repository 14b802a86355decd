"""From disk to rows: what a run's files hold, which rows count, where updates are missing."""
