"""Answers for coding agents: a server of the Model Context Protocol that reads the runs under one folder."""
