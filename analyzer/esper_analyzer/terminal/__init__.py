"""What the commands show on a terminal: tail, replay, the list of runs, commands run for alerts."""
