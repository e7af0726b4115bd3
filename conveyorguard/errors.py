"""The errors a user is meant to read: each names the place, the problem and the remedy."""


class ConveyorGuardError(Exception):
    """Base of all errors that are shown without a traceback."""


class ConfigError(ConveyorGuardError):
    """One or more settings cannot work; all of them are listed."""


class DataError(ConveyorGuardError):
    """Data that cannot be read or do not fit the schema."""


class RunError(ConveyorGuardError):
    """A run directory that is missing, incomplete or does not fit what is asked of it."""
