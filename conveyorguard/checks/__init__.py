"""Self-checks of a run: whether its numbers are what they claim to be."""
