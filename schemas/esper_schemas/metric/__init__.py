"""What a number is: the metrics table, its types and bands, and how values are made to fit."""
