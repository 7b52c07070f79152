"""Where the model works on single observations, and where it only adds them up.

Between x and the frontier every tensor has its own observations along an axis. Behind
the frontier all is linear: no second derivative arises there.
"""

import collections

from batchhess.analysis.region import carries_derivative
from batchhess.compat import control_flow_context, in_v1_while_loop, source_tensor
from batchhess.graph.tensors import has_custom_gradient, product_of, tensor_key
from batchhess.ops.sizes import shape_of
from batchhess.ops.states import BATCHED, FREE, SUM, NotProvenError, batched, rank_of
from batchhess.ops.table import (
    AFFINE,
    IN_EACH,
    PASSED,
    declared,
    is_linear,
    linearity,
)

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


class Partition(
    collections.namedtuple("Partition", "ops frontier behind states kinds alignments")
):
    """The region of an x, divided at the frontier.

    Attributes:
      ops: list of the Operations between x and the frontier, from x on.
      frontier: list of the Tensors of which ys are a linear function.
      behind: list of the Operations behind the frontier.
      states: dict from the key of a Tensor that depends on x to its `State`.
      kinds: dict from each of `ops` to its kind.
      alignments: dict from each of `ops` to where the observations are in its inputs.
    """

    def depends(self, tensor):
        """Whether `tensor` depends on x."""
        return tensor_key(tensor) in self.states

    def state(self, tensor):
        """The `State` of `tensor`, which depends on x."""
        return self.states[tensor_key(tensor)]

    def is_batched(self, tensor):
        """Whether `tensor` depends on x, with its observations along an axis."""
        return self.depends(tensor) and self.state(tensor).kind == BATCHED

    def places(self, tensor):
        """The elements that an observation has in `tensor`; None if not known."""
        state, shape = self.state(tensor), shape_of(tensor)
        shape[state.axis] = state.each
        return None if None in shape else product_of(shape)

    def of_each(self):
        """The Tensors nearest the frontier that tell of each observation by itself.

        A sum over the observations of a block is not the sum over all.
        """
        found = []
        for tensor in self.frontier:
            inputs = [t for t in tensor.op.inputs if self.is_batched(t)]
            found += [tensor] if self.is_batched(tensor) else inputs
        return found

    def depending(self, op):
        """The inputs of `op` that depend on x, each once."""
        alive = [t for t in op.inputs if self.depends(t)]
        return list({tensor_key(t): t for t in alive}.values())

    def boundary(self, op):
        """The inputs of `op` that do not depend on x, each with its alignment."""
        aligned = zip(op.inputs, self.alignments[op])
        return [(t, axis) for t, axis in aligned if not self.depends(t)]

    def onto(self, x, other_x, copies):
        """The same of a copy of the model.

        Args:
          x: the Tensor that this is the `Partition` of.
          other_x: the Tensor in its place in the copy.
          copies: list of Operations, the copies of `ops`.
        """
        became, became_of = dict(zip(self.ops, copies)), dict(zip(copies, self.ops))
        states = {
            (became[op], index): state
            for (op, index), state in self.states.items()
            if op in became
        }
        for (op, index), state in states.items():
            if state.kind == BATCHED:  # What TensorFlow finds out anew may be less.
                shape = shape_of(became_of[op].outputs[index])
                op.outputs[index].set_shape(
                    shape[: state.axis] + [None] + shape[state.axis + 1 :]
                )
        states[tensor_key(other_x)] = self.state(x)
        return Partition(
            copies,
            [
                other_x if t is x else became[t.op].outputs[t.value_index]
                for t in self.frontier
            ],
            [],
            states,
            {became[op]: kind for op, kind in self.kinds.items()},
            {became[op]: states for op, states in self.alignments.items()},
        )


def partition(region, ys, x, walk, axis):
    """Divides the region of `x` at the frontier.

    Args:
      region: the `Region` between `x` and `ys`.
      ys: list of Tensors, proven separable.
      x: a Tensor or Variable.
      walk: the `Walk` from `x`.
      axis: int, the observation axis of `x`.

    Returns:
      a `Partition`.

    Raises:
      NoPartitionError: there is none, or an op before it cannot be applied to other
        observations.
    """
    _check_x(x, axis)
    whole, ends = set(region.ops), {tensor_key(y) for y in ys}
    inside = set()
    for op in region.ops:
        try:
            if _is_followed(op, whole, ends, walk, x.shape.as_list()[axis]):
                inside.add(op)
        except NotProvenError as why:
            raise NoPartitionError(op, str(why)) from None
        if op.graph is not x.graph or control_flow_context(op) is not None:
            raise NoPartitionError(op, "is inside a function, loop or branch")

    def within(tensor):
        return tensor is x or tensor.op in inside and walk.state(tensor).kind != FREE

    behind = [op for op in region.ops if op not in inside]
    uses = list(ys) + [t for op in behind for t in op.inputs]
    frontier = {tensor_key(t): t for t in uses if within(t)}
    ops = _in_order(inside)
    known = [x] + [t for op in ops for t in op.outputs]
    states = {tensor_key(t): walk.state(t) for t in known}
    return Partition(
        ops,
        list(frontier.values()),
        behind,
        {key: state for key, state in states.items() if state.kind != FREE},
        {op: kind_of(op, walk) for op in ops},
        {op: alignment(op, walk) for op in ops},
    )


def _check_x(x, axis):
    if source_tensor(x) is not x:
        raise NoPartitionError(None, "is a Variable")
    if None in [d for a, d in enumerate(x.shape.as_list()) if a != axis]:
        raise NoPartitionError(
            None, "has coordinates whose number the graph does not tell"
        )
    if in_v1_while_loop():
        raise NoPartitionError(None, "is used in a while loop of control flow v1")


def alignment(op, walk):
    """Tells for each input of `op` where the observations are in it.

    This is what it takes to apply an op to other observations than those of the graph:
    to a block of them, or to each one several times.

    Args:
      op: an Operation whose inputs that depend on x have their own observations along
        an axis.
      walk: the `Walk` from x.

    Returns:
      list with a `State` that tells where the observations of that input are (one for
      all, where it is broadcast); None, it is the same for all; or `SHAPE`.

    Raises:
      NotProvenError: the graph does not tell, or the op cannot be built again.
    """
    if has_custom_gradient(op):
        raise NotProvenError("has a gradient of its author's own")
    if op.op_def.is_stateful:
        raise NotProvenError("has a state or an effect")
    known = declared(op)
    if known.calls:
        raise NotProvenError("calls a function")
    if known.inputs is None:
        raise NotProvenError("cannot be applied to some of the observations")
    states = [walk.state(t) for t in op.inputs]
    for state in states:
        if state.kind != FREE and state.each is None:
            raise NotProvenError("acts on values whose observations are not followed")
    own = next((s for s in states if s.kind == BATCHED), None)
    found = []
    for place, state in enumerate(states):
        if state.kind != BATCHED:
            state = known.inputs(op, place, states, walk)
            if isinstance(state, int):
                rank_of(op.inputs[place])  # Rows are taken along an axis of it.
                state = batched(state, own.origin)
        found.append(state)
    return found


def kind_of(op, walk):
    """`IDENTITY`, `LINEAR`, `ELEMENTS` (element by element), `BILINEAR`, `GENERAL`."""
    known = declared(op)
    if known.tangents == PASSED:
        return IDENTITY
    alive = [i for i, t in enumerate(op.inputs) if walk.state(t).kind != FREE]
    if is_linear(op, alive):
        return LINEAR
    if known.elementwise:
        return ELEMENTS
    return BILINEAR if linearity(op) == IN_EACH and len(alive) == 2 else GENERAL


def _is_followed(op, whole, ends, walk, count):
    """Whether `op` is before the frontier; `count` is N, if the graph tells."""
    outputs = [
        tensor
        for tensor in op.outputs
        if carries_derivative(tensor)
        and (tensor_key(tensor) in ends or any(c in whole for c in tensor.consumers()))
    ]
    states = [walk.state(tensor) for tensor in outputs]
    # Affine is enough: what is added is no derivative.
    is_affine = kind_of(op, walk) in (IDENTITY, LINEAR) or linearity(op) == AFFINE
    if is_affine and None in [state.each for state in states]:
        return False
    alignment(op, walk)
    if any(t.dtype.base_dtype.is_complex for t in list(op.inputs) + outputs):
        raise NotProvenError("is complex, and tangents are real")
    if any(state.kind not in (BATCHED, SUM) for state in states):
        raise NotProvenError("has observations that are not followed")
    for tensor in list(op.inputs) + outputs:
        state = walk.state(tensor)
        if state.kind != BATCHED:
            continue
        if not _is_static(tensor, state.axis):
            raise NotProvenError("has a shape that the graph does not tell")
        rows = tensor.shape.as_list()[state.axis]
        if count == 1 and rows is not None and rows != state.each:
            raise NotProvenError("broadcasts one observation to several places")
    return True


def _is_static(tensor, axis):
    """Whether all sizes but that of `axis` are known."""
    if tensor.shape.ndims is None:
        return False
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
