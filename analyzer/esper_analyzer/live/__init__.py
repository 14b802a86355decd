"""A run as pictures, while it goes on or at any moment of a recorded one; knows no screen."""
