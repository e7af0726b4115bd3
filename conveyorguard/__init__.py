"""ConveyorGuard: how worn a factory's transfer devices are, second by second."""

__version__ = "0.1.0"
