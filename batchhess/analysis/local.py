"""Reverse passes through one op and its own derivatives, and nothing else.

tf.gradients walks all that follows from its xs, which makes a pass through each op of a
model quadratic in their number. What lies between the inputs of one op, its output and
the derivatives just built of it is a handful of ops: these are visited here.
"""

from batchhess.analysis.region import carries_derivative
from batchhess.compat import captured_from, derivative_of, gradient_function, tf
from batchhess.graph.tensors import tensor_key
from batchhess.ops.shapes import summed_over_none


class Local:
    """The ops between some Tensors and others that are held.

    Args:
      ys: list of Tensors.
      held: list of Tensors to go no further back than; all that `ys` depend on must
        come through them or be constant.
    """

    def __init__(self, ys, held):
        self._ys, self._ops = ys, []
        stop, seen = {_key(t) for t in held}, set()
        pending = [(_key(y)[0], False) for y in ys if _key(y) not in stop]
        while pending:
            op, is_done = pending.pop()
            if is_done:
                self._ops.append(op)
            elif op not in seen:
                seen.add(op)
                pending.append((op, True))
                pending += [
                    (_key(t)[0], False) for t in op.inputs if _key(t) not in stop
                ]

    def gradients(self, xs, seeds):
        """The derivatives of sum(seeds * ys) by each of `xs`, which are held.

        Args:
          xs: list of Tensors.
          seeds: list of Tensors of the shapes of ys.

        Returns:
          list with a Tensor for each of `xs`; None where no derivative passes.

        Raises:
          LookupError: an op has no gradient.
        """
        moving = self._moving(xs)
        arriving = {}
        for y, seed in zip(self._ys, seeds):
            arriving.setdefault(_key(y), []).append(seed)
        for op in reversed(self._ops):
            if op not in moving:
                continue
            adjoints = [_total(arriving.get(_key(t))) for t in op.outputs]
            if all(adjoint is None for adjoint in adjoints):
                continue
            for tensor, part in zip(op.inputs, _pulled_back(op, adjoints)):
                if part is not None:
                    arriving.setdefault(_key(tensor), []).append(part)
        return [_total(arriving.get(_key(x))) for x in xs]

    def depends(self, x):
        """Whether a small change of `x`, which is held, can change ys."""
        moving = self._moving([x])
        return any(_key(y)[0] in moving or _key(y) == _key(x) for y in self._ys)

    def _moving(self, xs):
        """The ops that a small change of one of `xs` passes."""
        keys, moving = {_key(x) for x in xs}, set()
        for op in self._ops:  # Each after those that it reads from.
            if any(_key(t) in keys for t in op.inputs):
                moving.add(op)
                keys.update(_key(t) for t in op.outputs if carries_derivative(t))
        return moving


def _key(tensor):
    """What identifies `tensor`, or the one around a function that it stands for."""
    while captured_from(tensor) is not None:
        tensor = captured_from(tensor)
    return tensor_key(tensor)


def _total(parts):
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else tf.add_n(parts)


def _pulled_back(op, adjoints):
    """The derivatives by the inputs of `op`, given those by its outputs."""
    function = gradient_function(op)
    if function is None:
        return [None] * len(op.inputs)
    adjoints = [
        tf.zeros_like(t) if a is None and carries_derivative(t) else a
        for t, a in zip(op.outputs, adjoints)
    ]
    with derivative_of(op):
        parts = function(op, *adjoints)
    parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
    parts = [None if p is None else tf.convert_to_tensor(p) for p in parts]
    found = [None if p is None else summed_over_none(p) for p in parts]
    return [p if f is None else f for p, f in zip(parts, found)]
