"""The command `compare`: runs side by side, aligned, scored and grouped by seed."""
