"""What each number means: the metrics table, types, thresholds, levels, and the conversion of values."""
