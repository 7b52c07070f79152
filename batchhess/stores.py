"""Rows that are read in chunks, in a temporary file; of text, in memory."""

import tempfile

import numpy as np


def is_text(dtype):
    """Whether text is asked for: `dtype` is that of a placeholder of text, `object`."""
    return dtype is not None and dtype.kind == "O"


def store_of(shape, dtype):
    """What rows of `shape` are kept in: a temporary file, or memory for text."""
    return (_Words if is_text(np.dtype(dtype)) else Store)(shape, dtype)


def _check_rows(rows, shape, count):
    """Raises unless rows, from number `count` on, have the shape of those before."""
    if rows.shape[1:] != shape:
        raise ValueError(
            "the rows from {} on have shape {}, and those before {}.".format(
                count, list(rows.shape[1:]), list(shape)
            )
        )


class _Words:
    """Rows of bytes, in memory, each different word once."""

    def __init__(self, shape, dtype):
        self._shape, self._known, self._found = tuple(shape), {}, []
        self._count = 0

    def append(self, rows):
        _check_rows(rows, self._shape, self._count)
        self._count += len(rows)
        self._found.extend(self._known.setdefault(word, word) for word in rows.flat)

    def array(self):
        found = np.empty(len(self._found), object)
        found[:] = self._found
        return found.reshape((-1,) + self._shape)


class Store:
    """Rows in a temporary file, which has no name where the system can do without.

    Args:
      shape: of a row.
      dtype: of its numbers.
    """

    def __init__(self, shape, dtype):
        self._shape, self._dtype, self._count = tuple(shape), np.dtype(dtype), 0
        self._file = tempfile.TemporaryFile(prefix="batchhess")

    def append(self, rows):
        if rows.dtype != self._dtype:
            if not np.can_cast(rows.dtype, self._dtype, "safe"):
                raise ValueError(
                    "the rows from {} on are {}, and those before {}.".format(
                        self._count, rows.dtype, self._dtype
                    )
                )
            rows = rows.astype(self._dtype)
        _check_rows(rows, self._shape, self._count)
        try:
            self._file.write(np.ascontiguousarray(rows).tobytes())
            self._file.flush()
        except OSError as error:
            words = error.strerror + " for a temporary copy of the data"
            raise OSError(error.errno, words, tempfile.gettempdir()) from None
        self._count += len(rows)

    def array(self):
        shape = (self._count,) + self._shape
        if not np.prod(shape):
            return np.zeros(shape, self._dtype)
        return np.memmap(self._file, self._dtype, "r", shape=shape)
