"""Where a function is called for many items: in processes of this machine, or on a Ray cluster."""
