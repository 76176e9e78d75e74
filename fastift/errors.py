"""What can go wrong, as types that a caller may want to catch. Every message is one sentence that names the thing."""

__all__ = ["FastiftError", "InvalidInputError", "ImageFileError", "WeightsError", "DivergenceError", "OutputError"]


class FastiftError(Exception):
    """Base of every error that fastift raises on purpose."""


class InvalidInputError(FastiftError, ValueError):
    """An argument has the wrong shape, dtype, range or value."""


class ImageFileError(FastiftError, OSError):
    """A picture cannot be read: missing, broken, no image, too large."""


class WeightsError(FastiftError, ValueError):
    """A weight file is missing, damaged, or of another layout than expected."""


class DivergenceError(FastiftError, ArithmeticError):
    """The fixed step of the paper's iteration is too large for these features."""


class OutputError(FastiftError, OSError):
    """A result cannot be written: the target exists, or its folder is missing or not writable."""
