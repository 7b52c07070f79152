"""What the graph tells of an integer tensor that holds a shape."""

import collections
import functools
import operator

from batchhess.compat import static_value

# The size of `axis` of `tensor`, which only a run can tell.
Size = collections.namedtuple("Size", ["tensor", "axis"])


def shape_of(tensor):
    """The shape of `tensor`, of known rank: a list of int, and None where unknown."""
    shape = tensor.shape.as_list()
    if None in shape and tensor.op.type == "Reshape":  # TensorFlow forgets some sizes.
        asked = elements_of(tensor.op.inputs[1]) or []
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
    value = static_value(tensor)
    if value is not None:
        return [int(v) for v in value.reshape(-1)]
    op = tensor.op
    if op.type in ("Cast", "Identity", "Reshape", "ExpandDims", "Squeeze"):
        return elements_of(op.inputs[0])
    if op.type in ("Shape", "ShapeN"):
        return dimensions_of(op.inputs[tensor.value_index])
    if op.type == "Rank":
        rank = op.inputs[0].shape.ndims
        return [rank]
    if op.type in ("Add", "AddV2", "Sub", "Mul"):
        return _arithmetic(op)
    if op.type == "Pack":
        parts = [elements_of(t) for t in op.inputs]
        return [part[0] if part else None for part in parts]
    if op.type == "ConcatV2":
        parts = [elements_of(t) for t in op.inputs[:-1]]
        return None if None in parts else [e for part in parts for e in part]
    if op.type == "GatherV2":
        return _gather(op)
    if op.type == "Prod" and tensor.shape.ndims == 0:
        return _product(op)
    if op.type == "Slice":
        return _slice(op)
    if op.type == "StridedSlice":
        return _strided_slice(op)
    if tensor.shape.ndims == 0:
        return [None]
    length = tensor.shape.as_list()[0] if tensor.shape.ndims == 1 else None
    return None if length is None else [None] * length


def product_of(sizes):
    """The product of ints and scalar Tensors: an int where all are ints."""
    return functools.reduce(operator.mul, sizes, 1)


def _arithmetic(op):
    parts = [elements_of(t) for t in op.inputs]
    if None in parts or [len(p) for p in parts] != [1, 1]:
        return None
    (a,), (b,) = parts
    if not (isinstance(a, int) and isinstance(b, int)):
        return [None]
    return [{"Sub": a - b, "Mul": a * b}.get(op.type, a + b)]


def _gather(op):
    whole, places = elements_of(op.inputs[0]), elements_of(op.inputs[1])
    if whole is None or not _known(places) or op.inputs[0].shape.ndims != 1:
        return None
    inside = all(0 <= place < len(whole) for place in places)
    return [whole[place] for place in places] if inside else None


def _product(op):
    factors = elements_of(op.inputs[0])
    if not _known(factors):
        return [None]
    return [product_of(factors)]


def _slice(op):
    whole, begin, size = (elements_of(t) for t in op.inputs)
    if whole is None or not _known(begin) or not _known(size):
        return None
    end = len(whole) if size[0] == -1 else begin[0] + size[0]
    return whole[begin[0] : end]


def _strided_slice(op):
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
