"""What the command line feeds, and which of it holds observations."""

import re

import numpy as np

from batchhess import casting, reading
from batchhess.compat import tf
from batchhess.models.outline import above

# What takes in data: a queue would wait for ever, and an iterator go on by itself.
_TAKEN_IN = re.compile(
    r"Placeholder|\w*Dequeue\w*|\w*IteratorGetNext\w*|Reader\w*Read\w*|\w*Unstage\w*"
    r"|\w*Peek|BarrierTakeMany|\w*TakeGradient"
)


def tensors(model, options, fed=()):
    """The ys and the xs."""
    xs = [model.find(name) for name in options.xs]
    return [model.tensor(name, fed=list(fed) + xs) for name in options.ys], xs


def read(model, options):
    """What is fed, read from the files.

    Returns:
      the ys, the xs, a dict from Tensors to what is fed for them, and one from those
      that hold observations to the axis of these.
    """
    feed = {}
    for name, text in options.feed:
        tensor = model.find(name)
        if tensor in feed:
            raise ValueError("'{}' is fed twice.".format(tensor.name))
        kind = kind_of(tensor, options, name)
        feed[tensor] = reading.read(text, tensor.name, *kind)
    ys, xs = tensors(model, options, list(feed))
    for missing in _missing(ys, xs, feed):
        raise ValueError(
            "nothing is fed for '{0}'. Pass --feed {0}=FILE.".format(missing.name)
        )
    others = [model.find(name) for name in options.batched or ()]
    for tensor in others:
        if tensor not in feed:
            words = "--batched names '{}', and nothing is fed for it."
            raise ValueError(words.format(tensor.name))
    counted = [x for x in xs if np.ndim(feed[x])] or xs
    options.batch_axis = _batch_axis(options.batch_axis, counted, feed)
    data = _Data(feed, xs, counted[0], options.batch_axis)
    is_told = options.batched is not None
    for tensor, value in feed.items():
        if np.ndim(value):
            _check_shape(tensor, np.shape(value), data.axis_of(tensor))
    data.fill(xs + others, is_told)
    for tensor, value in feed.items():
        _check_shape(tensor, np.shape(value), data.axis_of(tensor))
    batched = data.batched(xs + others, is_told)
    for tensor, value in feed.items():
        _check_shape(tensor, np.shape(value), batched.get(tensor))
    data.tell(batched, xs + others)
    return ys, xs, feed, batched


def kind_of(tensor, options, called):
    """How `reading.read` reads for a placeholder: dtype, rank, header, and key."""
    header = {None: None, "yes": True, "no": False}[options.header]
    dtype = np.dtype(tensor.dtype.base_dtype.as_numpy_dtype)
    return dtype, tensor.shape.ndims, header, called


class _Data:
    """What is fed, and on which axes it may hold observations.

    Args:
      feed: dict from Tensors to what is fed for them.
      xs: list of Tensors.
      x: the one of them of which the observations are counted.
      axis: int, that of its observations.
    """

    def __init__(self, feed, xs, x, axis):
        self._feed, self._xs, self._x, self._axis = feed, xs, x, axis
        self._count = np.shape(feed[x])[axis]
        self._of_x = self._size(x)

    def axis_of(self, tensor):
        """The axis of observations, if it has any: of what has one axis that."""
        return 0 if self._ndims(tensor) == 1 and tensor not in self._xs else self._axis

    def _ndims(self, tensor):
        ndims = tensor.shape.ndims
        return np.ndim(self._feed[tensor]) if ndims is None else ndims

    def _size(self, tensor):
        """Its observations in the graph: None if that is open, 0 if it has no axis."""
        axis = self.axis_of(tensor)
        if axis >= self._ndims(tensor):
            return 0
        return None if tensor.shape.ndims is None else tensor.shape.as_list()[axis]

    def _may_hold(self, tensor):
        """Whether it has as many observations as x in the graph, or may have."""
        return self._size(tensor) in (None, self._of_x)

    def _rows(self, tensor):
        axis, shape = self.axis_of(tensor), np.shape(self._feed[tensor])
        if axis >= len(shape):
            words = "what is fed for '{}' has shape {}, and no axis {} of observations."
            raise ValueError(words.format(tensor.name, list(shape), axis))
        return int(shape[axis])

    def fill(self, named, is_told):
        """Replaces each number for observations by as many as x has.

        Raises:
          ValueError: nothing tells whether a number is that of each observation.
        """
        for tensor, value in self._feed.items():
            is_open = tensor not in named and self._size(tensor) is None
            if np.ndim(value) or not self._may_hold(tensor):
                continue
            if is_open and not is_told:
                others = [t for t in self._like_x() if t not in named]
                raise ValueError(
                    "'{}' takes [{}], and is fed one number. Pass --batched {} if that "
                    "is the number of each observation; if not, a file.".format(
                        tensor.name,
                        _sizes(tensor),
                        " ".join(t.name for t in others + [tensor]),
                    )
                )
            if tensor in named or not is_told:
                sizes = tensor.shape.as_list()
                sizes[self.axis_of(tensor)] = self._count
                if None not in sizes:
                    number = casting.cast(np.asarray(value), tensor)
                    self._feed[tensor] = np.broadcast_to(number, sizes)

    def batched(self, named, is_told):
        """What holds observations: a dict from it to their axis.

        What is named; and if nothing is told, what has as many as x in the graph, and
        in the files.

        Raises:
          ValueError: it has others in the files: nothing tells what they are.
        """
        found = list(dict.fromkeys(named + ([] if is_told else self._like_x())))
        rest = [] if is_told else self._open()
        for tensor in found + rest:
            rows = self._rows(tensor)
            if rows != self._count:
                words = "'{}' has {:,} rows and '{}' {:,}: if it holds observations, "
                words += "feed as many"
                if tensor not in named:
                    words += "; if it does not, pass --batched with those that do: {}"
                names = " ".join(t.name for t in found)
                given = tensor.name, rows, self._x.name, self._count, names
                raise ValueError((words + ".").format(*given))
        return {tensor: self.axis_of(tensor) for tensor in found}

    def _open(self):
        """What may hold observations, and is fed an array."""
        found = [t for t, value in self._feed.items() if np.ndim(value)]
        if self._of_x == self._count:  # One batch: whole or not, it is the same.
            return [tensor for tensor in found if self._size(tensor) is None]
        return [tensor for tensor in found if self._may_hold(tensor)]

    def _like_x(self):
        """What has as many rows as x in the files, and may have in the graph."""
        return [t for t in self._open() if self._rows(t) == self._count]

    def tell(self, batched, named):
        """Tells what is taken for observations, and what is not and might be."""
        found = [tensor for tensor in batched if tensor not in named]
        if found:
            words = "taken for observations too, as --batched would tell: {}"
            print(words.format(_names(found)))
        whole = [tensor for tensor in self._like_x() if tensor not in batched]
        if whole:
            print("fed whole to each batch: {}".format(_names(whole)))


def _batch_axis(axis, xs, feed):
    """The axis of observations, counted from the first."""
    found = set()
    for x in xs:
        rank = np.ndim(feed[x])
        if not -rank <= axis < rank:
            raise ValueError(
                "what is fed for '{}' has shape {}, and no axis {} of "
                "observations.".format(x.name, np.shape(feed[x]), axis)
            )
        found.add(axis % rank)
    if len(found) > 1:
        words = "axis {} is another of each x: they have different numbers of axes."
        raise ValueError(words.format(axis))
    return found.pop()


def _missing(ys, xs, feed):
    """The Tensors that must be fed and are not, the xs first."""
    yield from (x for x in xs if x not in feed)
    for item in above(ys, list(feed)):
        op = item.op if isinstance(item, tf.Tensor) else item
        if _TAKEN_IN.fullmatch(op.type):
            yield item if isinstance(item, tf.Tensor) else op.outputs[0]


def _check_shape(tensor, shape, axis):
    """Raises unless a tensor can be fed an array of this shape, in parts of `axis`."""
    if tensor.shape.ndims is None:
        return
    sizes = tensor.shape.as_list()
    pairs = enumerate(zip(sizes, shape))
    fits = all(at == axis or size in (None, n) for at, (size, n) in pairs)
    if len(sizes) != len(shape) or not fits:
        raise ValueError(
            "what is fed for '{}' has shape {}, and it takes [{}].".format(
                tensor.name,
                list(shape),
                _sizes(tensor),
            )
        )


def _sizes(tensor):
    sizes = tensor.shape.as_list()
    return ", ".join("?" if size is None else str(size) for size in sizes)


def _names(tensors):
    return ", ".join("'{}'".format(tensor.name) for tensor in tensors)
