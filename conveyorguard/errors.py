"""Errors written for users: each names the place, the problem and the remedy."""

__all__ = ["ConfigError", "ConveyorGuardError", "DataError", "RunError"]


class ConveyorGuardError(Exception):
    """Base class of the errors that the command line shows without a traceback."""


class ConfigError(ConveyorGuardError):
    """One or more settings cannot work; the message lists all of them."""


class DataError(ConveyorGuardError):
    """Data cannot be read or do not fit the schema."""


class RunError(ConveyorGuardError):
    """A run directory is missing, incomplete or unfit for the request."""
