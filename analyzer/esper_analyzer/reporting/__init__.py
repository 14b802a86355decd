"""The report in every format, the check, and runs side by side."""
