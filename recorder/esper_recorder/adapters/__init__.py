"""Adapters: PPO trainers of other people recorded as they run, one module each; see recorder/ADAPTERS.md."""
