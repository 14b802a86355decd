"""Adapters that record other PPO libraries while they train, one module per library; see recorder/ADAPTERS.md."""
