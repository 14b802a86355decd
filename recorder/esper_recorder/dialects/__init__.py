"""What other trainers call their numbers, and what each number is in the metrics table; data, imported by all who ask.

Adapters, importers, `esper-rec fields` and the documents read `DIALECTS`; nothing here imports more than the format.
"""
