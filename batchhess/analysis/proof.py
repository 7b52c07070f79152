"""The proof: which axis of each tensor between x and f is the observation axis.

Every tensor gets a `State`. The table of ops tells how the states of the inputs of an
op make that of its output; an op that it has no rule for proves nothing. f is separable
if its own state is anything but `UNPROVEN`.
"""

from batchhess.analysis.region import carries_derivative
from batchhess.compat import captured_from, source_tensor
from batchhess.graph.tensors import has_custom_gradient, tensor_key
from batchhess.ops.states import (
    FREE,
    FREED,
    OWN,
    SUM,
    UNPROVEN,
    NotProvenError,
    batched,
    labelled,
    unproven,
)
from batchhess.ops.table import NO, declared, linearity


def prove(ys, walk):
    """Whether `ys` are proven to be sums over observations of a function of each alone.

    Args:
      ys: list of Tensors.
      walk: the `Walk` from x.

    Returns:
      the `State` of the first y that is not proven, of kind `UNPROVEN`; else that of
      the first y.
    """
    states = [walk.state(y) for y in ys]
    return next((state for state in states if state.kind == UNPROVEN), states[0])


def walk_from(x, batch_axis):
    """The `Walk` that starts from the observations of `x`, whose `origin` is `OWN`."""
    start = batched(batch_axis % x.shape.ndims, OWN)
    return Walk({tensor_key(source_tensor(x)): start})


class Walk:
    """States of tensors, found by walking back to tensors whose state is known."""

    def __init__(self, known):
        self._states = dict(known)

    def within(self, known):
        """A `Walk` through the body of a function, whose arguments are `known`."""
        return Walk(known)

    def state(self, tensor):
        """The `State` of `tensor`."""
        pending, entered = [tensor], set()
        while pending:
            current = pending[-1]
            key = tensor_key(current)
            if key in self._states:
                pending.pop()
                continue
            parents = self._parents(current)
            unknown = [p for p in parents if tensor_key(p) not in self._states]
            if not unknown:
                self._enter_outputs(current, parents)
                pending.pop()
            elif key in entered:  # A loop of control flow v1 leads back here.
                self._states[key] = unproven(
                    current.op, "is part of a while loop of control flow v1"
                )
                pending.pop()
            else:
                entered.add(key)
                pending.extend(unknown)
        return self._states[tensor_key(tensor)]

    def of_each(self, ys):
        """The Tensors nearest `ys` that are no sums over observations.

        They tell more than a sum, in which what changes a few of many is lost.
        """
        found, pending = {}, list(ys)
        while pending:
            tensor = pending.pop()
            if self.state(tensor).kind == SUM and linearity(tensor.op) != NO:
                inputs = tensor.op.inputs
                pending += [t for t in inputs if self.state(t).kind != FREE]
            else:
                found[tensor_key(tensor)] = tensor
        return list(found.values())

    def _parents(self, tensor):
        if not carries_derivative(tensor):
            return []
        outer = captured_from(tensor)
        return list(tensor.op.inputs) if outer is None else [outer]

    def _enter_outputs(self, tensor, parents):
        if not carries_derivative(tensor):
            self._states[tensor_key(tensor)] = FREED
            return
        states = [self._states[tensor_key(p)] for p in parents]
        if captured_from(tensor) is not None:
            self._states[tensor_key(tensor)] = states[0]
            return
        for output, state in zip(tensor.op.outputs, self._after(tensor.op, states)):
            state = state if carries_derivative(output) else FREED
            # One of the outputs may be x itself, which is known.
            self._states.setdefault(tensor_key(output), state)

    def _after(self, op, states):
        """The states of the outputs of `op`."""
        count = len(op.outputs)
        if all(state.kind == FREE for state in states):
            return [FREED] * count
        for state in states:
            if state.kind == UNPROVEN:
                return [state] * count
        if has_custom_gradient(op):
            return [unproven(op, "has a gradient of its author's own")] * count
        follow = declared(op).follow
        if follow is None:
            return [unproven(op, "has no rule")] * count
        try:
            result = follow(op, states, self)
        except NotProvenError as why:
            return [unproven(op, str(why))] * count
        results = result if isinstance(result, list) else [result] * count
        return [labelled(state, (op, i)) for i, state in enumerate(results)]
