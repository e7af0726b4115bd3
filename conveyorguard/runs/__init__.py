"""The run directory: written while training, read back by everything after."""
