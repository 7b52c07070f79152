"""The errors of this library, and what those of TensorFlow say."""

import re


class SecondDerivativeError(ValueError):
    """TensorFlow has lost a second derivative, and would answer without it."""


class UndefinedDerivativeError(SecondDerivativeError, LookupError):
    """TensorFlow does not define a derivative, and raises LookupError or TypeError."""


def lines_of(error):
    """What an error says, line by line, its cause first.

    TensorFlow tells where an op was built before it tells what went wrong.
    """
    text = getattr(error, "message", None) or str(error)
    lines = [line.rstrip() for line in str(text).splitlines() if line.strip()]
    where = r"\s|Detected at |Node: |Graph execution error:$"
    told = [line for line in lines if not re.match(where, line)]
    lines = [line.strip() for line in told or lines]
    return list(dict.fromkeys(lines)) or [type(error).__name__]


def cause(error):
    """The first line of what an error says."""
    return lines_of(error)[0]
