"""Reads event files of TensorBoard (tfevents) as points."""
