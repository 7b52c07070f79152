"""Sizes, steps and comparisons: no small change passes them."""

from batchhess.compat import static_value
from batchhess.ops.sizes import (
    of_broadcast,
    of_concat_offset,
    of_inverse,
    of_range,
    of_rank,
    of_shape,
)
from batchhess.ops.table import OF_COMPLEX, SOUND, op

op("Shape ShapeN", twice=SOUND, elements=of_shape, size_only=True)
op("Size", twice=SOUND, size_only=True)
op("Rank", twice=SOUND, elements=of_rank, size_only=True)
op("Range", twice=SOUND, elements=of_range)
op("InvertPermutation", twice=SOUND, elements=of_inverse)
op("ConcatOffset", twice=SOUND, elements=of_concat_offset)
op("BroadcastArgs", twice=SOUND, elements=of_broadcast)
op("Ceil Floor FloorDiv Rint Round", step=True, twice=SOUND)
op("Sign", step=True, twice=SOUND, faults=[OF_COMPLEX._replace(wrong_once=True)])
op("OnesLike ZerosLike", step=True, twice=SOUND, size_only=True)
op("Fill", twice=SOUND)
op("Bitcast", bits=True)


def is_zeros(tensor):
    """Whether the graph tells that `tensor` is zeros."""
    if tensor.op.type == "ZerosLike":
        return True
    value = static_value(tensor.op.inputs[1] if tensor.op.type == "Fill" else tensor)
    return value is not None and bool((value == 0).all())
