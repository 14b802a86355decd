"""What the commands show on a terminal: tail, replay and the list of runs; also `tail --on-alert`."""
