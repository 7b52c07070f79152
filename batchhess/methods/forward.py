"""All coordinates at once, forward: the Jacobian by the tangents that meet in y."""

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
    (y,) = problem.ys
    sweep = _Forward(problem, passes, y)
    for op in problem.partition.ops:
        if sweep.is_reached(op):
            sweep.enter(op)
    found = sweep.columns(y)  # [N, C, M]
    if found is None:
        shape = [problem.layout.num_observations] + problem.shape
        return tf.zeros(tf.stack(shape), problem.x.dtype.base_dtype)
    return tf.cast(tf.transpose(found, [0, 2, 1]), problem.x.dtype.base_dtype)


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
