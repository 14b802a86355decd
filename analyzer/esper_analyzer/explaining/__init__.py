"""What moved first: which metrics left their own bands before an update, in order; and where one run left another."""
