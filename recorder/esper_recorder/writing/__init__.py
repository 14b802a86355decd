"""From a row in the trainer's thread to bytes in an active file."""
