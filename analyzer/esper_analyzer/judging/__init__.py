"""Judges a run by its numbers: signals, rules, alerts, the verdict, the user's settings, and the live monitor."""
