"""Means over a fixed number of observations, which fetches may be made of."""

import contextlib
import re

import numpy as np

from batchhess.compat import static_value, tf

# What they answer depends on shapes, and not on values.
_OF_SHAPES = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")

_DIVISIONS = ("RealDiv", "Div", "DivNoNan", "TruncateDiv", "FloorDiv")

# What makes a number of observations from one.
_OF_NUMBERS = ("Cast", "Identity", "Maximum", "Minimum", "Add", "AddV2", "Sub", "Mul")
_OF_NUMBERS += ("Reshape", "ExpandDims", "Squeeze", "Sqrt", "BroadcastTo")

# TensorFlow makes constants of known shapes and sizes: their names tell.
_SHAPE, _SIZE = re.compile(r"Shape(_\d+)?"), re.compile(r"(Size|num_elements)(_\d+)?")

# What `tf.losses` divides by.
_PRESENT = re.compile(r"(^|/)num_present(_\d+)?[:/]")

# Nobody computes a number of observations in more steps.
_DEEP = 50


def refuse_means(fetches, batch_size, batched, cure):
    """Raises where a graph of a fixed number of observations takes a mean over them.

    The gradient of a mean holds its number of terms as a constant, and may not hold
    the mean itself: it is known by the name of its gradient's scope.

    Args:
      fetches: list of Tensors.
      batch_size: int, that number.
      batched: list of Tensors, those that are fed observations.
      cure: str, what else may be done, for the message.
    """
    graph, finder = fetches[0].graph, _Means(batch_size, batched)
    seen, stack = set(), [fetch.op for fetch in fetches]
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        stack.extend([t.op for t in op.inputs] + list(op.control_inputs))
        for candidate in [op] + _differentiated(graph, op.name):
            if finder.is_mean(candidate):
                raise ValueError(
                    "the graph is of {} observations, and '{}' is a mean over them: "
                    "the answers would be of a mean over a batch, not over all. Take a "
                    "sum{}.".format(batch_size, candidate.name, cure)
                )


def _differentiated(graph, name):
    """The op whose gradient the op called `name` may be a part of."""
    parts, found = name.split("/"), []
    for end, part in enumerate(parts):
        if part.endswith("_grad"):
            for begin in range(end + 1):
                candidate = "/".join(parts[begin:end] + [part[: -len("_grad")]])
                with contextlib.suppress(KeyError):
                    found.append(graph.get_operation_by_name(candidate))
    return found


class _Means:
    """Tells means over `count` observations, which are fed for Tensors `batched`."""

    def __init__(self, count, batched):
        self._count, self._known = count, {}
        self._moving = {tensor.name for tensor in batched}
        stack = list(batched)
        while stack:
            for op in stack.pop().consumers():
                if op.type not in _OF_SHAPES:
                    new = [t for t in op.outputs if t.name not in self._moving]
                    self._moving.update(t.name for t in new)
                    stack.extend(new)

    def is_mean(self, op):
        """Whether an op is a mean, or a division by a number of observations."""
        if not op.inputs or not any(t.name in self._moving for t in op.inputs):
            return False
        first = op.inputs[0]
        if op.type in ("Mean", "SegmentMean"):
            if first.name not in self._moving or not self._is_of_all(first):
                return False
            axes = static_value(op.inputs[1]) if op.type == "Mean" else 0
            lead = (0, -first.shape.ndims)
            return axes is not None and any(axis in lead for axis in np.ravel(axes))
        if op.type in _DIVISIONS:
            by = self._told(op.inputs[1])
            return first.name in self._moving and by == "number"
        return op.type == "Mul" and "inverse" in map(self._told, op.inputs)

    def _is_of_all(self, tensor):
        return bool(tensor.shape.ndims) and tensor.shape.as_list()[0] == self._count

    def _told(self, tensor, depth=0):
        """Whether it is a "shape" with all observations, their "number", or "inverse".

        None if it is nothing of these, or if nothing tells.
        """
        if depth > _DEEP:
            return None
        if tensor.name not in self._known:
            self._known[tensor.name] = None  # While its inputs are looked at.
            self._known[tensor.name] = self._tell(tensor, depth + 1)
        return self._known[tensor.name]

    def _tell(self, tensor, depth):
        op = tensor.op
        if _PRESENT.search(tensor.name):
            return "number"
        if tensor.name in self._moving:
            return None
        if op.type == "Const":
            return self._tell_constant(tensor)
        if op.type in ("Shape", "Size"):
            given = op.inputs[0]
            is_of_all = given.name in self._moving and self._is_of_all(given)
            return {"Shape": "shape", "Size": "number"}[op.type] if is_of_all else None
        told = [self._told(t, depth) for t in op.inputs]
        if op.type == "StridedSlice" and told[0] == "shape":
            return _tell_slice(op)
        if op.type == "Unpack" and told[0] == "shape":
            return None if tensor.value_index else "number"
        if op.type == "Prod" and told[0] == "shape":
            return "number"
        if op.type in _DIVISIONS:  # Of one number by another it is neither.
            by_number = {None: "inverse"}.get(told[0])
            return {"number": by_number, None: told[0]}.get(told[1])
        if op.type in ("Reciprocal", "Inv"):
            return "inverse" if told[0] == "number" else None
        if op.type in _OF_NUMBERS:
            return next((word for word in told if word), None)
        return None

    def _tell_constant(self, tensor):
        name, value = tensor.op.name.rpartition("/")[2], static_value(tensor)
        if value is None or tensor.dtype not in (tf.int32, tf.int64):
            return None
        if _SHAPE.fullmatch(name) and value.ndim == 1 and len(value):
            return "shape" if value[0] == self._count else None
        is_number = _SIZE.fullmatch(name) and not value.ndim
        return "number" if is_number and value and not value % self._count else None


def _tell_slice(op):
    """What a slice of a shape is: of its first entry, or from it on."""
    begin, end = static_value(op.inputs[1]), static_value(op.inputs[2])
    if begin is None or end is None or len(begin) != 1:
        return None
    rank = op.inputs[0].shape.as_list()[0]
    if begin[0] not in (0, -rank) and not op.get_attr("begin_mask") & 1:
        return None
    is_one = end[0] in (1, 1 - rank) and not op.get_attr("end_mask") & 1
    return "number" if is_one or op.get_attr("shrink_axis_mask") & 1 else "shape"
