"""Where the model works on single observations, and where it only adds them up.

Between x and the frontier every tensor has its own observations along an axis. Behind
the frontier all is linear: no second derivative arises there.
"""

import collections

from batchhess.analysis.alignment import alignment
from batchhess.analysis.observation_axis import (
    ELEMENTWISE,
    FREE,
    ROWS,
    SUM,
    NotProvenError,
    walk_from,
)
from batchhess.analysis.region import carries_derivative, region, tensor_key
from batchhess.analysis.sizes import shape_of
from batchhess.compat import control_flow_context, in_v1_while_loop, source_tensor

# ops: list of the Operations between x and the frontier, from x on.
# frontier: list of the Tensors of which ys are a linear function.
# behind: list of the Operations behind the frontier.
# state_of: function from a Tensor to its `State`.
Partition = collections.namedtuple("Partition", "ops frontier behind state_of")

# How the outputs of an op vary with those of its inputs that depend on x.
IDENTITY, LINEAR, ELEMENTS = "identity", "linear", "elements"
BILINEAR, GENERAL = "bilinear", "general"


class NoPartitionError(Exception):
    """The observations cannot be followed to where all is linear.

    Attributes:
      op: the Operation where they are lost; None if x itself is to blame.
      reason: str, what it does, or what x is.
    """

    def __init__(self, op, reason):
        super().__init__(reason)
        self.op, self.reason = op, reason


def partition(ys, x, batch_axis):
    """Divides the region of `x` at the frontier.

    Args:
      ys: list of Tensors, proven separable.
      x: a Tensor or Variable.
      batch_axis: int, the observation axis of `x`.

    Returns:
      a `Partition`.

    Raises:
      NoPartitionError: there is none, or an op before it cannot be applied to other
        observations.
    """
    if source_tensor(x) is not x:
        raise NoPartitionError(None, "is a Variable")
    if None in [
        d for a, d in enumerate(x.shape.as_list()) if a != batch_axis % x.shape.ndims
    ]:
        raise NoPartitionError(
            None, "has coordinates whose number the graph does not tell"
        )
    if in_v1_while_loop():
        raise NoPartitionError(None, "is used in a while loop of control flow v1")
    state_of = walk_from(x, batch_axis).state
    everything = region(ys, x)
    whole, ends = set(everything), {tensor_key(y) for y in ys}
    inside = set()
    for op in everything:
        try:
            if _is_followed(op, whole, ends, state_of):
                inside.add(op)
        except NotProvenError as why:
            raise NoPartitionError(op, str(why)) from None
        if op.graph is not x.graph or control_flow_context(op) is not None:
            raise NoPartitionError(op, "is inside a function, loop or branch")

    def within(tensor):
        return tensor is x or tensor.op in inside and state_of(tensor).kind != FREE

    behind = [op for op in everything if op not in inside]
    uses = list(ys) + [t for op in behind for t in op.inputs]
    frontier = {tensor_key(t): t for t in uses if within(t)}
    return Partition(_in_order(inside), list(frontier.values()), behind, state_of)


def depending(op, state_of):
    """The inputs of `op` that depend on x, each once."""
    alive = [t for t in op.inputs if state_of(t).kind != FREE]
    return list({tensor_key(t): t for t in alive}.values())


def kind_of(op, state_of):
    """`IDENTITY`, `LINEAR`, `ELEMENTS` (element by element), `BILINEAR`, `GENERAL`."""
    if op.type in _IDENTITIES:
        return IDENTITY
    alive = [i for i, t in enumerate(op.inputs) if state_of(t).kind != FREE]
    if op.type in _LINEAR:
        return LINEAR
    if op.type in _LINEAR_IN_EACH and len(alive) == 1:
        return LINEAR
    if alive == [_LINEAR_IN.get(op.type)]:
        return LINEAR
    if op.type in ELEMENTWISE:
        return ELEMENTS
    return BILINEAR if op.type in _LINEAR_IN_EACH and len(alive) == 2 else GENERAL


_IDENTITIES = frozenset(
    """CheckNumerics CheckNumericsV2 EnsureShape Identity PlaceholderWithDefault
    PreventGradient Snapshot""".split()
)

_LINEAR = frozenset(
    """Add AddN AddV2 AvgPool AvgPool3D BiasAdd BroadcastTo Cast ConcatV2 Cumsum
    DepthToSpace ExpandDims GatherV2 MatrixBandPart MatrixDiag MatrixDiagPart
    MatrixDiagPartV2 MatrixDiagPartV3 Mean MirrorPad Neg Pack Pad Reshape ReverseV2 Roll
    Slice SpaceToDepth Split SplitV Squeeze StridedSlice Sub Sum Tile Transpose
    Unpack""".split()
)

_LINEAR_IN_EACH = frozenset(
    """BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2D Conv2DBackpropInput Conv3D
    DepthwiseConv2dNative Einsum MatMul Mul""".split()
)

_LINEAR_IN = {"RealDiv": 0, "MatrixSolve": 1, "MatrixTriangularSolve": 1}


def _is_followed(op, whole, ends, state_of):
    """Whether `op` is before the frontier."""
    outputs = [
        tensor
        for tensor in op.outputs
        if carries_derivative(tensor)
        and (tensor_key(tensor) in ends or any(c in whole for c in tensor.consumers()))
    ]
    states = [state_of(tensor) for tensor in outputs]
    followed = all(state.is_own for state in states)
    if not followed:
        if kind_of(op, state_of) in (IDENTITY, LINEAR):
            return False
        if all(state_of(t).kind == SUM for t in depending(op, state_of)):
            return False  # Proven, hence linear.
    alignment(op, state_of)
    if any(state.kind not in (ROWS, SUM) for state in states):
        raise NotProvenError("has observations that are not followed")
    for tensor in list(op.inputs) + outputs:
        state = state_of(tensor)
        if state.kind == ROWS and not _is_static(tensor, state.axis):
            raise NotProvenError("has a shape that the graph does not tell")
    return True


def _is_static(tensor, axis):
    """Whether all sizes but that of `axis` are known."""
    shape = shape_of(tensor)
    return None not in shape[:axis] + shape[axis + 1 :]


def _in_order(ops):
    """`ops` sorted so that each comes after those that it reads from."""
    ordered, done = [], set()
    for start in ops:
        pending = [start]
        while pending:
            op = pending[-1]
            before = [t.op for t in op.inputs if t.op in ops and t.op not in done]
            if before and op not in done:
                pending.extend(before)
                continue
            pending.pop()
            if op not in done:
                done.add(op)
                ordered.append(op)
    return ordered
