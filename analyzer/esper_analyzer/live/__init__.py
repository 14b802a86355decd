"""Pictures of a run, live or at any moment of a recorded one; independent of any screen."""
