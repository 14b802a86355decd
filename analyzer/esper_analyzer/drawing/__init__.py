"""Metrics and pictures as text for a terminal: charts, tables, panels, colours."""
