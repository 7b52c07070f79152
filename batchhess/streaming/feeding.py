"""What is fed, batch by batch, in the dtypes that the graph asks for."""

import zlib

import numpy as np

from batchhess.casting import cast
from batchhess.compat import tf
from batchhess.streaming.digests import as_bytes


class Feed:
    """What is fed, batch by batch.

    Attributes:
      count: int, the observations of all.
      batch_size: int, the observations of a run.
      is_fixed: bool, whether the graph is of a fixed number of them.
      names: set of str, of all that is fed.
    """

    def __init__(self, graph, feed_dict, batched, batch_size):
        if isinstance(batched, (tf.Tensor, str)):  # One that is read by its letters.
            words = "batched is {!r}, no list: put it into one."
            raise TypeError(words.format(getattr(batched, "name", batched)))
        axes = batched if isinstance(batched, dict) else dict.fromkeys(batched, 0)
        known = {_name(key): key for key in feed_dict}
        missing = [_name(key) for key in axes if _name(key) not in known]
        if missing or not axes:
            raise ValueError(
                "batched names {}, and feed_dict holds {}.".format(
                    missing or "nothing", sorted(known)
                )
            )
        self._axes, self._tensors = {}, {}
        counts, fixed = {}, set()
        for name, axis in sorted((_name(key), axis) for key, axis in axes.items()):
            key = known[name]
            shape = _shape(feed_dict[key], name)
            if not -len(shape) <= axis < len(shape):
                raise ValueError(
                    "what is fed for '{}' has shape {}, and no axis {} of "
                    "observations.".format(name, shape, axis)
                )
            self._axes[key] = axis % len(shape)
            tensor = graph.get_tensor_by_name(name)
            self._tensors[key] = tensor
            counts[name] = shape[axis]
            fixed.add(tensor.shape.as_list()[axis] if tensor.shape.ndims else None)
        self._values = {}
        for key, value in feed_dict.items():
            if key not in self._axes:
                value = _whole(value, _name(key), graph)
            elif not hasattr(value, "shape"):  # Lists cannot be sliced by axis.
                value = _array(value, self._tensors[key])
            self._values[key] = value
        self.count = next(iter(counts.values()))
        if set(counts.values()) != {self.count}:
            raise ValueError(
                "batched arrays differ in their number of observations: {}.".format(
                    counts
                )
            )
        fixed.discard(None)
        if fixed and fixed != {batch_size}:
            raise ValueError(
                "the graph is of {} observations, and batch_size is {}: they "
                "must be equal.".format(sorted(fixed), batch_size)
            )
        self.is_fixed, self.batch_size = bool(fixed), batch_size
        self.names = {str(_name(key)) for key in feed_dict}

    @property
    def tensors(self):
        """The Tensors that are fed observations."""
        return list(self._tensors.values())

    def batch(self, first, stop, start, rows=None):
        """What to feed for observations `first` to `stop`, or for `rows` of them.

        Returns:
          the feed_dict, how many observations it holds, and the checksums of those
          from `start` on.
        """
        fed, sums = dict(self._values), []
        count = len(rows) if rows is not None else stop - first
        size = self.batch_size if self.is_fixed else count
        for key, axis in self._axes.items():
            if rows is not None:  # Few, and beside each other.
                low = min(rows)
                part = self._part(key, axis, low, max(rows) + 1)
                part = np.take(part, [row - low for row in rows], axis)
            else:
                part = self._part(key, axis, first, stop)
                sums.append(_checksum(part, axis, start - first))
            if size > count > 0:  # Fill up with the last observation.
                last = np.take(part, [-1] * (size - count), axis)
                part = np.concatenate([part, last], axis)
            fed[key] = part
        return fed, size, sums

    def refuse_nonfinite_rest(self):
        """Raises if NaN or Inf is fed with all observations."""
        for key, value in self._values.items():
            parts = [] if key in self._axes else tf.nest.flatten(value)
            if any(len(nonfinite_rows(np.ravel(part))) for part in parts):
                raise ValueError(
                    "what is fed for '{}' holds NaN or Inf. Pass on_nonfinite='keep' "
                    "to run with it.".format(_name(key))
                )

    def refuse_nonfinite(self, fed, first, stop):
        """Raises if NaN or Inf is fed for observations `first` to `stop`."""
        for key, axis in self._axes.items():
            rows = nonfinite_rows(np.moveaxis(fed[key], axis, 0)[: stop - first])
            if len(rows):
                raise ValueError(
                    "what is fed for '{}' is NaN or Inf at observations {}. "
                    "Pass on_nonfinite='keep' to run with it.".format(
                        _name(key), listed(rows + first)
                    )
                )

    def sums(self, start, stop):
        """The checksums of the data of observations `start` to `stop`."""
        return [
            _checksum(self._part(key, axis, start, stop), axis, 0)
            for key, axis in self._axes.items()
        ]

    def _part(self, key, axis, start, stop):
        before = (slice(None),) * axis
        part = np.asarray(self._values[key][before + (slice(start, stop),)])
        return cast(part, self._tensors[key], start, axis)

    def kinds(self):
        """What is batched: for each, its name, dtype, axis and shape of the rest."""
        found = []
        for key, axis in self._axes.items():
            shape = list(np.shape(self._values[key]))
            rest = [int(length) for length in shape[:axis] + shape[axis + 1 :]]
            found.append([_name(key), self._tensors[key].dtype.name, axis, rest])
        return found

    def rest_sums(self):
        """The checksums of what is fed whole, by name."""
        found = {}
        for key, value in self._values.items():
            if key not in self._axes:
                parts = map(np.asarray, tf.nest.flatten(value))
                found[str(_name(key))] = zlib.crc32(b"".join(map(as_bytes, parts)))
        return found


def _shape(value, name):
    """The shape of what is fed, which is an array, or lists of numbers."""
    if not hasattr(value, "shape") and not isinstance(value, (list, tuple)):
        raise TypeError(
            "what is fed for '{}' is a {}, no array: it is read in parts, and again "
            "where that is checked.".format(name, type(value).__name__)
        )
    try:
        return np.shape(value)
    except ValueError:  # numpy's own words are of its insides.
        raise ValueError(
            "what is fed for '{}' is a list of rows of other lengths.".format(name)
        ) from None


def nonfinite_rows(array):
    """The indices on axis 0 where `array` holds NaN or Inf."""
    if array.dtype.kind not in "fc" and array.dtype.name != "bfloat16":
        return np.zeros(0, int)
    if array.dtype.kind == "f" and np.isfinite(array.sum()):
        return np.zeros(0, int)  # One pass, and no other array.
    bad = ~np.isfinite(array.astype(np.float32) if array.dtype.kind == "V" else array)
    return np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))


def listed(rows, limit=10):
    """The first of the numbers `rows`, in words."""
    text = ", ".join(str(int(row)) for row in rows[:limit])
    more = len(rows) - limit
    return text + (" and {} more".format(more) if more > 0 else "")


def _checksum(part, axis, skip):
    """The checksum of all but the first `skip` observations on an axis."""
    if skip:
        part = part[(slice(None),) * axis + (slice(skip, None),)]
    if not part.size:
        return 0
    if part.dtype.kind in "OSU":
        return zlib.crc32(as_bytes(part))
    return zlib.crc32(np.ascontiguousarray(part))


def _array(value, tensor):
    """What is fed as an array, in which bytes keep their zeros at the end."""
    if isinstance(value, np.ndarray):
        return value
    kind = object if tensor.dtype.base_dtype == tf.string else None
    return np.asarray(value, dtype=kind)


def _whole(value, name, graph):
    """What is fed with all observations, as its tensor holds it."""
    if not (isinstance(name, str) and ":" in name):
        return value  # A part of a SparseTensor and the like.
    tensor = graph.get_tensor_by_name(name)
    if tensor.dtype.base_dtype in (tf.resource, tf.variant):
        return value
    if tensor.dtype.base_dtype == tf.string:
        return cast(_array(value, tensor), tensor)
    found = np.asarray(value)
    return cast(found, tensor) if found.size and found.dtype.kind != "O" else value


def _name(key):
    return key.name if isinstance(key, tf.Tensor) else getattr(key, "name", key)
