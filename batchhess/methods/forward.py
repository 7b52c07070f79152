"""All directions at once, forward: a Jacobian, or products, by the tangents of y."""

from batchhess.compat import tf
from batchhess.graph.tensors import tensor_key
from batchhess.methods.sweep import Sweep


def forward(problem, passes):
    """Carries the tangents of all coordinates from x to y, and takes nothing back.

    What works element by element is differentiated once, not K times; what is linear is
    applied to the tangents. (Griewank & Walther 2008, Evaluating Derivatives, chapter
    3.)

    Args:
      problem: a `Problem` with outputs, whose `partition` leads from x to y.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, M, C], of the C coordinates asked for.
    """
    found = _tangents(problem, passes)
    if found is None:
        return _zeros(problem)
    return tf.cast(tf.transpose(found, [0, 2, 1]), problem.x.dtype.base_dtype)


def pushed(problem, passes):
    """The Hessian times several vectors: the gradient's tangents along all of them.

    Forward over reverse (Griewank & Walther 2008, chapter 5): the gradient is a
    function of x like any other.

    Args:
      problem: a `Problem` with vectors, whose one y is the gradient, of the shape of x,
        and whose `partition` leads from x to it.
      passes: the `Passes` to differentiate with.

    Returns:
      a Tensor [N, V, K].
    """
    found = _tangents(problem, passes)
    return _zeros(problem) if found is None else found


def _tangents(problem, passes):
    """The tangents of the one y of a `Problem`, [N, C, M]; None if they are zero."""
    (y,) = problem.ys
    sweep = _Forward(problem, passes, y)
    for op in problem.partition.ops:
        if sweep.is_reached(op):
            sweep.enter(op)
    return sweep.columns(y)


def _zeros(problem):
    shape = [problem.layout.num_observations] + problem.shape
    return tf.zeros(tf.stack(shape), problem.x.dtype.base_dtype)


class _Forward(Sweep):
    """The walk from x to y."""

    def __init__(self, problem, passes, y):
        parts, count = problem.partition, problem.layout.num_observations
        super().__init__(
            parts, count, passes, problem.x, problem.directions, problem.copied
        )
        self._read = {tensor_key(y)}
        self._read.update(tensor_key(t) for op in parts.ops for t in op.inputs)

    def is_needed(self, tensor):
        return tensor_key(tensor) in self._read

    def columns(self, tensor):
        """dy/dx of `tensor`, [N, C, places]; None if it is zero."""
        base = self.base(tensor)
        if base is None:
            return None
        found = self._frame.flat_base(base)
        if not base.shared:
            return found
        shape = [self._frame.count, self._frame.size, self._frame.places(tensor)]
        return tf.broadcast_to(found[None], tf.stack(shape))
