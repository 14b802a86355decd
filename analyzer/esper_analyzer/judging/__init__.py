"""From numbers to a verdict: signals, rules, alerts in force, settings, the monitor."""
