"""Where control flow v1 has put an op: in which loops and branches.

It is read from the ops alone, not from the contexts in which they were built: a graph
that was imported has none.
"""

import collections

from batchhess.graph.tensors import tensor_key
from batchhess.ops.table import (
    CONDITION,
    ENTER,
    EXIT,
    MERGE,
    NEXT,
    PASSED,
    SWITCH,
    declared,
)

# frames: tuple of the names of the loops around, the outermost first. branches: a
# frozenset of pairs, the key of a predicate and 1 or 0, for which of its two branches.
Place = collections.namedtuple("Place", "frames branches")

_TOP = Place((), frozenset())


class Frames:
    """Remembers the place of each op that was asked for."""

    def __init__(self):
        self._places = {}

    def of(self, op):
        """The `Place` of what `op` computes."""
        pending = [op]
        while pending:
            op = pending[-1]
            missing = [p for p in _before(op) if p not in self._places]
            if missing:
                pending += missing
                continue
            pending.pop()
            if op not in self._places:
                self._places[op] = self._find(op)
        return self._places[op]

    def is_inside(self, op):
        """Whether `op` is inside a loop or a branch."""
        return self.of(op) != _TOP

    def predicate(self, merge):
        """The Tensor that decides which input of `merge` is taken; None if unknown."""
        for op in _before(merge):
            self.of(op)
        off, on = (self._of_tensor(t).branches for t in merge.inputs)
        found = [key for key, taken in off if taken == 0 and (key, 1) in on]
        return found[0][0].outputs[found[0][1]] if len(found) == 1 else None

    def _find(self, op):
        tensors = [t for t in op.inputs if not _is_next(t.op)]
        inputs = [self._of_tensor(t) for t in tensors]
        controls = [self._places[c] for c in op.control_inputs]
        frames = max([p.frames for p in inputs + controls], key=len, default=())
        branches = [p.branches for p in inputs]
        if is_end_of_branches(op):
            branches = [frozenset.intersection(*branches)]
        branches = frozenset().union(*branches, *[p.branches for p in controls])
        if declared(op).frame == ENTER:
            frames += (op.get_attr("frame_name"),)
        elif declared(op).frame == EXIT:
            frames = frames[:-1]
        return Place(frames, branches)

    def _of_tensor(self, tensor):
        place, op = self._places[tensor.op], tensor.op
        of_loop = len(op.inputs) > 1 and declared(op.inputs[1].op).frame == CONDITION
        if declared(op).frame != SWITCH or of_loop:
            return place
        taken = (tensor_key(predicate_of(op)), tensor.value_index)
        return place._replace(branches=place.branches | {taken})


def predicate_of(switch):
    """The predicate of `switch`, by its first name: tf.cond gives it several."""
    predicate = switch.inputs[1]
    while declared(predicate.op).tangents == PASSED:
        predicate = predicate.op.inputs[0]
    return predicate


def is_end_of_branches(op):
    """Whether `op` hands on what either of two branches computes."""
    return declared(op).frame == MERGE and not any(_is_next(t.op) for t in op.inputs)


def _is_next(op):
    return declared(op).frame == NEXT


def _before(op):
    """The ops that `op` waits for, but for the way back of a loop."""
    return [t.op for t in op.inputs if not _is_next(t.op)] + list(op.control_inputs)
