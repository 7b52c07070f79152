"""Loops, branches, calls and TensorArrays, built again for a second differentiation.

TensorFlow differentiates a loop of control flow v1 once; the second time it answers
None without a word, or fails. The same loop of control flow v2 is differentiated
without end, but not any more once a Session has run it. So all are built anew: loops
and branches as those of control flow v2, calls of functions as what the functions hold.
"""

import collections

from batchhess.analysis.frames import Frames
from batchhess.analysis.region import Region
from batchhess.analysis.values import value_region
from batchhess.compat import (
    control_flow_context,
    differentiable_control_flow,
    in_v1_while_loop,
    source_tensor,
    tf,
)
from batchhess.control_flow import v1, v2  # noqa: F401 (They register themselves.)
from batchhess.control_flow.arrays import is_array
from batchhess.control_flow.scope import (
    NotBuiltError,
    Scope,
    check_op,
    must_be_shared,
)
from batchhess.graph.tensors import note_held, tensor_key
from batchhess.ops.table import EXIT, SWITCH, correction_of, declared, is_of_flow
from batchhess.rebuild import stand_for


def rebuild_control_flow(ys, xs, stands_for):
    """Builds `ys` again with what controls the flow between `xs` and them built anew.

    Args:
      ys: list of Tensors of the default graph.
      xs: list of Tensors or Variables, none of them computed from another.
      stands_for: dict as of `stand_for`, to which what is built is added.

    Returns:
      list of Tensors of the same values; `ys` itself if there is nothing to build, or
      if it draws random numbers or has another effect, which a copy would have again.
    """
    graph, between = tf.get_default_graph(), Region(ys, xs)
    if not _has_reason(between):
        return ys
    if in_v1_while_loop():  # A v2 loop in it could not be differentiated.
        return ys
    frames, olds = Frames(), [source_tensor(x) for x in xs]
    if any(y.graph is not graph or frames.is_inside(y.op) for y in ys):
        return ys
    try:
        inside = _built_again(value_region(ys, olds, shared=must_be_shared))
        for op in value_region(ys, olds):
            if op in inside:
                check_op(op)
        with tf.name_scope("rebuilt"), differentiable_control_flow():
            known = {tensor_key(old): old for old in olds}
            top = Scope(known, lambda op: op in inside or is_array(op), xs=olds)
            built = top.tensors(ys)
        for op in inside:
            if frames.is_inside(op):  # What is fed there, no check could see.
                for output in op.outputs:
                    graph.prevent_feeding(output)
        for old, new in top.pairs():
            if not frames.is_inside(old.op) and declared(old.op).frame != SWITCH:
                stand_for(stands_for, old, new)
        return built
    except NotBuiltError as error:
        if error.op is not None:
            note_held(between.ops, error.op)
        return ys


def _has_reason(between):
    """Whether a `Region` has to be built again.

    A v1 branch alone is differentiated without end; but what is corrected, in it or
    before it, is not without it.
    """
    ops = between.ops
    if any(
        declared(op).calls or declared(op).frame == EXIT or is_array(op) for op in ops
    ):
        return True
    # A frozen graph has forgotten which branch its ops are of.
    are_branches = any(is_of_flow(op) or control_flow_context(op) for op in ops)
    return are_branches and any(correction_of(op, between.depends) for op in ops)


def _built_again(ops):
    """Those of `ops` that are of a loop, branch, call or array, or come after one.

    What comes before is as good as it is.

    Args:
      ops: list of Operations.

    Returns:
      set of Operations.
    """
    readers = collections.defaultdict(list)
    for op in ops:
        for before in [t.op for t in op.inputs] + list(op.control_inputs):
            readers[before].append(op)
    pending = [op for op in ops if is_of_flow(op) or is_array(op)]
    found = set(pending)
    while pending:
        for reader in readers[pending.pop()]:
            if reader not in found:
                found.add(reader)
                pending.append(reader)
    return found
