"""What the graph tells of an integer tensor that holds a shape."""

import collections

from batchhess.compat import static_value, tf
from batchhess.graph.tensors import product_of
from batchhess.ops.table import declared

# The size of `axis` of `tensor`, which only a run can tell.
Size = collections.namedtuple("Size", ["tensor", "axis"])


def shape_of(tensor):
    """The shape of `tensor`, of known rank: a list of int, and None where unknown."""
    shape, place = tensor.shape.as_list(), declared(tensor.op).shape_input
    if None in shape and place is not None:  # TensorFlow forgets some sizes.
        asked = elements_of(tensor.op.inputs[place]) or []
        known = [e if isinstance(e, int) and e >= 0 else None for e in asked]
        if len(known) == len(shape):
            return [b if a is None else a for a, b in zip(shape, known)]
    return shape


def dimensions_of(tensor):
    """The shape of `tensor`, a list of int and `Size`; None if its rank is unknown."""
    if tensor.shape.ndims is None:
        return None
    shape = tensor.shape.as_list()
    return [Size(tensor, a) if d is None else d for a, d in enumerate(shape)]


def elements_of(tensor):
    """The elements of the integer vector `tensor`: int, `Size`, or None where unknown.

    Args:
      tensor: an integer Tensor, of shape [length] or [].

    Returns:
      a list (of one for a scalar), or None if not even the length is known.
    """
    elements = _elements_of(tensor)
    if _known(elements):
        _forbid_to_feed(tensor)
    return elements


def _elements_of(tensor):
    value = static_value(tensor)
    if value is not None:
        return [int(v) for v in value.reshape(-1)]
    read = declared(tensor.op).elements
    if read is not None and tensor.dtype.base_dtype in _SIZE_DTYPES:
        return read(tensor)
    if tensor.shape.ndims == 0:
        return [None]
    length = tensor.shape.as_list()[0] if tensor.shape.ndims == 1 else None
    return None if length is None else [None] * length


def _forbid_to_feed(tensor):
    """Has the run fail that feeds what the graph tells of `tensor`, and we rely on.

    TensorFlow forbids the same of constants, but not of what it computes from them.
    """
    pending = [tensor]
    while pending:
        tensor = pending.pop()
        if tensor.graph.is_feedable(tensor):
            tensor.graph.prevent_feeding(tensor)
            pending += [] if declared(tensor.op).size_only else tensor.op.inputs


# Others wrap, or make a truth of a size.
_SIZE_DTYPES = (tf.int32, tf.int64)


def ints_of(tensor):
    """The elements of `tensor` as ints; None if the graph does not tell them all."""
    elements = elements_of(tensor)
    return elements if _known(elements) else None


# How the elements of the output of an op are read: each is a value of `elements` in the
# table, a function from the output to what `elements_of` answers.


def of_input(tensor):
    source = tensor.op.inputs[0]
    return elements_of(source) if source.dtype.base_dtype in _SIZE_DTYPES else None


def of_shape(tensor):
    return dimensions_of(tensor.op.inputs[tensor.value_index])


def of_rank(tensor):
    return [tensor.op.inputs[0].shape.ndims]


def of_range(tensor):
    start, limit, step = (elements_of(t) for t in tensor.op.inputs)
    if None in (start[0], limit[0], step[0]) or not all(
        isinstance(e[0], int) for e in (start, limit, step)
    ):
        return None
    return list(range(start[0], limit[0], step[0]))


def of_inverse(tensor):
    """InvertPermutation: where each place of an order of axes has gone."""
    order = ints_of(tensor.op.inputs[0])
    if order is None or sorted(order) != list(range(len(order))):
        return None
    return [order.index(place) for place in range(len(order))]


def of_concat_offset(tensor):
    """ConcatOffset: where each part of what is joined along an axis begins."""
    axis, *shapes = (elements_of(t) for t in tensor.op.inputs)
    before, shape = shapes[: tensor.value_index], shapes[tensor.value_index]
    if not _known(axis) or shape is None or None in before:
        return None
    (axis,) = axis
    sizes = [each[axis] for each in before]
    start = sum(sizes) if _known(sizes) else None
    return [start if a == axis % len(shape) else 0 for a in range(len(shape))]


def of_pack(tensor):
    parts = [elements_of(t) for t in tensor.op.inputs]
    return [part[0] if part else None for part in parts]


def of_concat(tensor):
    parts = [elements_of(t) for t in tensor.op.inputs[:-1]]
    return None if None in parts else [e for part in parts for e in part]


def of_broadcast(tensor):
    """BroadcastArgs: the shape that two shapes broadcast to."""
    first, second = (elements_of(t) for t in tensor.op.inputs)
    if first is None or second is None:
        return None
    rank = max(len(first), len(second))
    first, second = ([1] * (rank - len(e)) + e for e in (first, second))
    return [_broadcast(a, b) for a, b in zip(first, second)]


def _broadcast(a, b):
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    known = [e for e in (a, b) if isinstance(e, int)]
    return known[0] if known else None  # Two sizes that a run tells: either may be one.


def of_arithmetic(tensor):
    op = tensor.op
    parts = [elements_of(t) for t in op.inputs]
    if None in parts or [len(p) for p in parts] != [1, 1]:
        return None
    (a,), (b,) = parts
    if not (isinstance(a, int) and isinstance(b, int)):
        return [None]
    if op.type == "FloorMod":
        return [a % b if b else None]
    return [{"Sub": a - b, "Mul": a * b}.get(op.type, a + b)]


def of_gather(tensor):
    op = tensor.op
    whole, places = elements_of(op.inputs[0]), elements_of(op.inputs[1])
    if whole is None or not _known(places) or op.inputs[0].shape.ndims != 1:
        return None
    inside = all(0 <= place < len(whole) for place in places)
    return [whole[place] for place in places] if inside else None


def of_product(tensor):
    op = tensor.op
    factors = elements_of(op.inputs[0])
    if not _known(factors):
        return [None]
    return [product_of(factors)]


def of_slice(tensor):
    op = tensor.op
    whole, begin, size = (elements_of(t) for t in op.inputs)
    if whole is None or not _known(begin) or not _known(size):
        return None
    end = len(whole) if size[0] == -1 else begin[0] + size[0]
    return whole[begin[0] : end]


def of_strided_slice(tensor):
    op = tensor.op
    whole, begin, end, stride = (elements_of(t) for t in op.inputs)
    if whole is None or not (_known(begin) and _known(end) and _known(stride)):
        return None
    if op.get_attr("ellipsis_mask") or op.get_attr("new_axis_mask"):
        return None
    if op.get_attr("shrink_axis_mask"):
        return [whole[begin[0]]] if -len(whole) <= begin[0] < len(whole) else None
    first = None if op.get_attr("begin_mask") else begin[0]
    last = None if op.get_attr("end_mask") else end[0]
    return whole[first : last : stride[0]]


def _known(elements):
    return elements is not None and all(isinstance(e, int) for e in elements)
