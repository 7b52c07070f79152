"""What differences cannot move, or cannot hold still: what their refusals say."""

from batchhess.analysis.region import Region, can_be_copied, has_effect
from batchhess.analysis.values import stops_between, value_region
from batchhess.compat import forward_op, tf
from batchhess.errors import SecondDerivativeError
from batchhess.graph.tensors import name_of, placed
from batchhess.ops.flow import STACK_POP, STACK_PUSH
from batchhess.ops.table import ENTER, declared


def not_rebuilt(tensor, x, method="columns"):
    """The error for a `tensor` that cannot be built again on a moved `x`."""
    return SecondDerivativeError(
        "differences need the model at a moved '{}', and it cannot be built there: {}, "
        "or do without differences: pass method='{}', and check='never' where the "
        "second derivative is known to be right.".format(
            name_of(x), why_not_rebuilt(tensor, x), method
        )
    )


def why_not_rebuilt(tensor, x):
    """What keeps `tensor` from being built again, and the cure."""
    if not isinstance(x, tf.Tensor):
        return "that is a Variable. Differentiate by a Tensor that is read from it"
    kept = [forward_op(op) for op in kept_by_loops(Region([tensor], x), x)]
    for op in kept + list(reversed(value_region([tensor], [x]))):
        if has_effect(op) and op not in kept:
            return (
                "what draws random numbers or has another effect must not run twice, "
                "as {} would. Draw outside of loops, branches and calls, and feed it"
            ).format(placed(op))
        if op in kept or not can_be_copied(op, tensor.graph, for_values=True):
            return (
                "a loop or branch of control flow v1 holds {}. Call "
                "tf.compat.v1.enable_control_flow_v2() before the model is built"
            ).format(placed(op))
    return "it is built inside a loop or function. Differentiate outside of it"


def kept_by_loops(region, x):
    """The ops above by which a gradient reads what a v1 loop has kept of x's values.

    No edge of the graph leads from there back to `x`.

    Args:
      region: the `Region` between `x` and the gradient.
      x: a Tensor or Variable.
    """
    pops = {op: _pushed(op) for op in region.above if op.type in STACK_POP}
    return [op for op, kept in pops.items() if Region(kept, x).depends(kept)]


def _pushed(pop):
    """The Tensors that a loop keeps where the op `pop` takes one."""
    handle, found = pop.inputs[0], []
    while declared(handle.op).frame == ENTER:
        handle = handle.op.inputs[0]
    handles = [handle]
    for handle in handles:  # It grows.
        for reader in handle.consumers():
            if declared(reader).frame == ENTER:
                handles += reader.outputs
            elif reader.type in STACK_PUSH:
                found.append(reader.inputs[1])
    return found


def stops_to_hold(ys, x):
    """The Tensors between `x` and `ys` that differences have to hold still.

    Raises:
      SecondDerivativeError: one is inside a function, where nothing can hold it.
    """
    held, inside = stops_between(ys, x)
    if inside:
        raise not_held(inside[0])
    return held


def not_held(stop):
    """The error for a stopped value inside a function, which differences would move."""
    return SecondDerivativeError(
        "{} is stopped inside a function, branch or loop, where differences cannot "
        "hold it still, as derivatives do. Stop it outside, or do without differences: "
        "without method='differences' and check='always'.".format(placed(stop))
    )
