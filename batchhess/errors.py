"""The errors of this library that TensorFlow has no name for."""


class SecondDerivativeError(ValueError):
    """TensorFlow has lost a second derivative, and would answer without it."""


class UndefinedDerivativeError(SecondDerivativeError, LookupError):
    """TensorFlow does not define a derivative, and raises LookupError or TypeError."""
