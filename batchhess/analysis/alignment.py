"""How the inputs of an op line up with its observations.

This is what it takes to apply an op to other observations than those of the graph: to
a block of them, or to each one several times.
"""

from batchhess.analysis.observation_axis import (
    ELEMENTWISE,
    FREE,
    ROWS,
    NotProvenError,
    einsum_labels,
)
from batchhess.analysis.region import has_custom_gradient
from batchhess.compat import static_value

# An input that holds the shape of the output: its entry for the observations differs.
SHAPE = "shape"


def alignment(op, state_of):
    """Tells for each input of `op` where the observations are in it.

    Args:
      op: an Operation whose inputs that depend on x have their own observations along
        an axis.
      state_of: function from a Tensor to its `State`.

    Returns:
      list with an int, the observation axis of that input (of size N, or 1 if it is
      broadcast); None, it is the same for all observations; or `SHAPE`.

    Raises:
      NotProvenError: the graph does not tell, or the op cannot be built again.
    """
    if has_custom_gradient(op):
        raise NotProvenError("has a custom gradient")
    if op.op_def.is_stateful:
        raise NotProvenError("has a state or an effect")
    if any(attr.HasField("func") for attr in op.node_def.attr.values()):
        raise NotProvenError("calls a function")
    states = [state_of(t) for t in op.inputs]
    for state in states:
        if state.kind != FREE and not state.is_own:
            raise NotProvenError("acts on values whose observations are not followed")
    return [
        state.axis if state.kind == ROWS else _aligned(op, place, states, state_of)
        for place, state in enumerate(states)
    ]


def _aligned(op, place, states, state_of):
    """The same for one input that does not depend on x."""
    tensor, dtype = op.inputs[place], op.inputs[place].dtype.base_dtype
    if _SHAPES.get(op.type) == place:
        return SHAPE
    if op.type in _PARAMETERS.get(place, ()):
        return None
    if op.type in ELEMENTWISE:
        return _broadcast(op, tensor, state_of)
    if op.type == "Einsum":
        return _in_einsum(op, place, states)
    if op.type in _MATRIX_PRODUCTS:
        other = 1 - place
        from_right = op.inputs[other].shape.ndims - states[other].axis
        if from_right <= 2:
            return None
        return _from_right(tensor, from_right)
    if op.type in ("ConcatV2", "Pack") and not dtype.is_integer:
        return next(s.axis for s in states if s.kind == ROWS)
    if op.type in _CROSS_ENTROPIES:
        return 0  # Even if it is 1: TensorFlow 1.15 broadcasts, but not its gradient.
    if op.type == "GatherV2" and not op.get_attr("batch_dims"):
        return None
    if op.type in _REARRANGEMENTS and static_value(tensor) is not None:
        return None
    raise NotProvenError("has an input that may differ between observations")


_SHAPES = {"Reshape": 1, "BroadcastTo": 1, "Conv2DBackpropInput": 0}

# Inputs that are the same for all observations, by their place.
_IMAGES = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput")
_PARAMETERS = {
    1: _IMAGES + ("TopKV2", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
}
for _place in (2, 3, 4):
    _PARAMETERS[_place] = _PARAMETERS[1][-3:]

_MATRIX_PRODUCTS = frozenset(
    """BatchMatMul BatchMatMulV2 BatchMatMulV3 MatMul MatrixSolve
    MatrixTriangularSolve""".split()
)

_CROSS_ENTROPIES = frozenset(
    ["SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"]
)

# Their other inputs say which axes, and are read by the proof.
_REARRANGEMENTS = frozenset(
    """ConcatV2 Cumprod Cumsum CumulativeLogsumexp ExpandDims Max Mean Min
    MirrorPad Pad Prod ReverseV2 Roll Slice Split SplitV StridedSlice Sum Tile
    Transpose""".split()
)


def _broadcast(op, tensor, state_of):
    output = state_of(op.outputs[0])
    if output.kind != ROWS or None in (tensor.shape.ndims, op.outputs[0].shape.ndims):
        raise NotProvenError("has a tensor of unknown rank")
    if op.type == "BiasAdd" and op.get_attr("data_format") == b"NCHW":
        return None if output.axis == 0 else _unknown()
    if op.type == "Select" and tensor.shape.ndims == 1 != op.outputs[0].shape.ndims:
        return 0 if output.axis == 0 else None
    return _from_right(tensor, op.outputs[0].shape.ndims - output.axis)


def _unknown():
    raise NotProvenError("has an input that may differ between observations")


def _from_right(tensor, from_right):
    """The axis that broadcasting puts `from_right` places from the end."""
    if tensor.shape.ndims is None:
        raise NotProvenError("has a tensor of unknown rank")
    axis = tensor.shape.ndims - from_right
    return None if axis < 0 or tensor.shape.as_list()[axis] == 1 else axis


def _in_einsum(op, place, states):
    terms, _ = einsum_labels(op)
    letter = next(t[s.axis] for t, s in zip(terms, states) if s.kind == ROWS)
    if letter not in terms[place]:
        return None
    axis = terms[place].index(letter)
    return None if op.inputs[place].shape.as_list()[axis] == 1 else axis
