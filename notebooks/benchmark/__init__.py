"""A benchmark for the verdict on PPO runs: sound and broken runs of three trainers; README.md describes it."""
