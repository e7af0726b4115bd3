"""The self-checks of a run: whether its numbers are what they are taken for."""
