"""Whether two runs have answered the same, but for rounding."""

import numpy as np

# What has cancelled to rounding may be off by so many units in the last place of what
# has not, in most of the other observations; but for some, which may be far larger.
_UNITS, _USUAL = 64, 0.9


def is_close(first, second, usual=0.0):
    """Whether the same but for rounding, which may differ between runs.

    Each observation is judged by its own largest entry, so that none is hidden beside
    a larger one.

    Args:
      first: array [N, ...].
      second: array [N, ...].
      usual: float, how large other observations are, as `usual_size` tells.
    """
    eps = max(_eps(first.dtype), _eps(second.dtype))
    first, second = _widened(first), _widened(second)
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    if not eps:
        return np.array_equal(first, second)
    sizes = np.maximum(_sizes(first), _sizes(second))
    usual = max(usual, _usual(_sizes(second)))
    close = np.sqrt(eps)
    allowed = close * sizes + min(_UNITS * eps, close) * usual
    with np.errstate(invalid="ignore"):  # Of Inf from Inf, which are equal.
        same = np.abs(first - second) <= allowed
    same |= (first == second) | (first != first) & (second != second)
    return bool(np.all(same))


def usual_size(array):
    """How large the observations of an array [N, ...] are, but for the largest."""
    return _usual(_sizes(_widened(array))) if _eps(array.dtype) else 0.0


def largest_size(array):
    """How large the largest observation of an array [N, ...] is."""
    return float(_sizes(_widened(array)).max(initial=0)) if _eps(array.dtype) else 0.0


def _usual(sizes):
    """The size that nine of ten do not exceed."""
    rank = int(_USUAL * (sizes.size - 1))
    return float(np.sort(sizes, axis=None)[rank]) if sizes.size else 0.0


def _sizes(array):
    """The largest finite entry of each observation: [N, ...] to [N, 1, ...]."""
    sizes = np.where(np.isfinite(array), np.abs(array), 0)
    axes = tuple(range(1, array.ndim))
    return sizes.max(axis=axes, initial=0, keepdims=True).astype(float)


def _eps(dtype):
    """Of floats the step from 1 to the next number, and 0 of others."""
    if dtype.name == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype).eps) if np.issubdtype(dtype, np.inexact) else 0.0


def _widened(array):
    """`array`; and less precise numbers as those that they are written as."""
    narrow = array.dtype.name in ("bfloat16", "float16")
    return array.astype(np.float32) if narrow else array


def in_turns(rows):
    """Two batches like `rows`: one keeps its even places, and one its odd ones."""
    last = len(rows) - 1
    even = [rows[at - at % 2] for at in range(len(rows))]
    return even, [rows[min(at | 1, last)] for at in range(len(rows))]


def of_turns(even, odd):
    """The answers of what was kept, of the two batches of `in_turns`: [N, ...]."""
    found = np.array(odd)
    found[::2] = even[::2]
    return found
