"""Where a model treats parts of each observation alike, one part as an observation.

[N, T d] seen as [N T, d], as by a network that is applied to each electron, token or
pixel: there a row depends on d coordinates, not on all T d of its observation.
"""

import collections

from batchhess.analysis.partition import IDENTITY
from batchhess.graph.tensors import tensor_key
from batchhess.ops.states import OWN
from batchhess.ops.table import RESHAPED, declared

# tensor: a Tensor [N T, ...] that holds the coordinates of x in order. ops: list of the
# Operations that see x through it alone, and keep its rows apart. parts: the
# `Partition`, with these rows for observations. each: T.
Fold = collections.namedtuple("Fold", "tensor ops parts each")


def folds(start, ops, parts, is_nonlinear):
    """Finds where the rows of a fold go through something nonlinear by themselves.

    Args:
      start: the Tensor that `ops` follow from.
      ops: list of Operations, in order.
      parts: the `Partition` that they are of.
      is_nonlinear: function from an Operation to a bool.

    Returns:
      list of `Fold`, no two with an Operation in common.
    """
    in_order, found, taken = {tensor_key(start)}, [], set()
    for op in ops if parts.state(start).axis == 0 else []:
        moves = parts.kinds[op] == IDENTITY or declared(op).tangents == RESHAPED
        first = parts.depending(op)[0]
        if op in taken or not moves or tensor_key(first) not in in_order:
            continue
        tensor = op.outputs[0]
        state = parts.state(tensor)
        if state.axis != 0:
            continue
        in_order.add(tensor_key(tensor))
        inside = _inside(tensor, ops, parts) if state.each > 1 else []
        if any(is_nonlinear(o) for o in inside):
            taken.update(inside)
            found.append(Fold(tensor, inside, _by_rows(parts, state), state.each))
    return found


def _inside(start, ops, parts):
    """Those of `ops` that see x through `start` alone, and work row by row."""
    state, keys, inside = parts.state(start), {tensor_key(start)}, []
    for op in ops:
        outputs = [t for t in op.outputs if parts.depends(t)]
        through = all(tensor_key(t) in keys for t in parts.depending(op))
        if through and all(parts.state(t) == state for t in outputs):
            inside.append(op)
            keys.update(tensor_key(t) for t in outputs)
    return inside


def _by_rows(parts, folded):
    """`parts` with what is in the state `folded` in one of own observations."""
    own = folded._replace(origin=OWN)

    def row(state):
        alike = getattr(state, "origin", None) == folded.origin
        return state._replace(origin=OWN) if alike else state

    return parts._replace(
        states={key: own if s == folded else s for key, s in parts.states.items()},
        alignments={op: [row(s) for s in ss] for op, ss in parts.alignments.items()},
    )
