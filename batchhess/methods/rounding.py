"""How far rounding may carry the values of a model that is built again, to first order.

A copy works on a block of observations, and rounds in another way. An error in an input
u of an op moves what follows by its product with the adjoint of u, however small what
follows is: of log(1 - p), 1 - p is as exact as 1, and not as what is left of it.
(Higham 2002, Accuracy and Stability of Numerical Algorithms, sections 1.6 and 3.3.)
"""

from batchhess.analysis.partition import ELEMENTS, GENERAL
from batchhess.compat import tf, where
from batchhess.copies import CANCELLED, is_near
from batchhess.graph.tensors import tensor_key
from batchhess.methods.tangents import added
from batchhess.ops.table import AFFINE, NO, SUBTRACTED, declared, linearity
from batchhess.rebuild import copy_op


def is_rounding(originals, copies, problem, precision):
    """Whether values differ, in each observation, by no more than rounding may do.

    Args:
      originals: list of Tensors.
      copies: list of Tensors of the same shapes, which `problem` has.
      problem: a `Problem` with a partition and adjoints.
      precision: the dtype of the least precise of them.

    Returns:
      a bool Tensor [].
    """
    parts, weighted = problem.partition, _Weighted(problem)
    inputs = {
        tensor_key(t): t
        for op in parts.ops
        if parts.kinds[op] in (ELEMENTS, GENERAL)
        for t in parts.depending(op)
        if weighted.has(t)
    }
    apart = [
        weighted.of_each(b, _apart(a, b, problem.x, precision))
        for a, b in zip(originals, copies)
        if weighted.has(b)
    ]
    errors = [weighted.of_each(t, size_of(t)) for t in inputs.values()]
    if not (apart and errors):
        return tf.constant(not apart)
    apart = added(apart)
    most = CANCELLED[precision.name] * added(errors)
    return tf.reduce_all(tf.equal(apart, 0) | (apart <= most))


def size_of(tensor, depth=4):
    """The magnitudes of the terms that `tensor` adds up: what it is as exact as."""
    op = tensor.op
    is_sum = linearity(op) not in (NO, AFFINE) and len(op.outputs) == 1
    if not (is_sum and depth):
        return tf.abs(tensor)
    sizes = [size_of(t, depth - 1) if t.dtype == tensor.dtype else t for t in op.inputs]
    if declared(op).tangents == SUBTRACTED:
        return sizes[0] + sizes[1]
    return tf.abs(copy_op(op, sizes).outputs[0])


def _apart(a, b, x, precision):
    """|a - b| where that is more than the rounding of what is not magnified; else 0."""
    far = tf.logical_not(is_near(a, b, x, precision))
    return where(far, tf.abs(a - b), tf.zeros_like(b))


class _Weighted:
    """Sums over what an observation has in a tensor, weighed by its adjoint there."""

    def __init__(self, problem):
        self._parts, self._adjoints = problem.partition, problem.adjoints

    def has(self, tensor):
        """Whether `tensor` has observations, and an adjoint."""
        known = self._adjoints.get(tensor_key(tensor)) is not None
        return known and self._parts.is_batched(tensor)

    def of_each(self, tensor, values):
        """[N], of `values` of the shape of `tensor`."""
        state = self._parts.state(tensor)
        others = [a for a in range(tensor.shape.ndims) if a != state.axis]
        adjoint = self._adjoints[tensor_key(tensor)]
        # Zero times infinity is none here: what nothing weighs is no error.
        products = where(
            tf.equal(values, 0), tf.zeros_like(values), tf.abs(adjoint) * values
        )
        sums = tf.reduce_sum(products, others)  # [N T]
        return tf.reduce_sum(tf.reshape(sums, [-1, state.each]), 1)
