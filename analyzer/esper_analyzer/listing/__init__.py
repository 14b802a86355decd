"""Many runs at a glance: what is known of each, which of them are wanted, in which order, as text, JSON or CSV."""
