"""What a command or script gets of a run: the report in every format, the check, the comparison of runs."""
