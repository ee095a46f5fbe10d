"""gpuwizard: the engine. It imports no screen; the front ends import it."""

__version__ = "0.1.0"
