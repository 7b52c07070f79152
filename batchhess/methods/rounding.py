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
from batchhess.ops.table import AFFINE, NO, SUBTRACTED, YES, declared, linearity
from batchhess.rebuild import copies_of, copy_op


def is_rounding(originals, problem, passes, precision):
    """Whether values differ, in each observation, by no more than rounding may do.

    Args:
      originals: list of Tensors, for those `of_each` observation in the partition, and
        of the same shapes.
      problem: a `Problem` with a partition.
      passes: the `Passes`.
      precision: the dtype of the least precise of them.

    Returns:
      a bool Tensor [].
    """
    copies, x = problem.partition.of_each(), problem.x
    apart = [_apart(a, b, x, precision) for a, b in zip(originals, copies)]
    if problem.adjoints is None:
        problem = _with_adjoints(problem, passes)
    parts, weighted = problem.partition, _Weighted(problem)
    apart = [
        weighted.of_each(t, values)
        for t, values in zip(parts.of_each(), apart)
        if weighted.has(t)
    ]
    inputs = {
        tensor_key(t): t
        for op in parts.ops
        if parts.kinds[op] in (ELEMENTS, GENERAL)
        for t in parts.depending(op)
        if weighted.has(t)
    }
    errors = [weighted.of_each(t, _size(t, parts)) for t in inputs.values()]
    if not (apart and errors):
        return tf.constant(not apart)
    apart = added(apart)
    most = CANCELLED[precision.name] * added(errors)
    return tf.reduce_all(tf.equal(apart, 0) | (apart <= most))


def _with_adjoints(problem, passes):
    """`problem` of a copy of the model, which is run where this is asked alone."""
    x, parts = tf.identity(problem.x), problem.partition
    replaced = {
        (op, place): x
        for op in parts.ops
        for place, t in enumerate(op.inputs)
        if t is problem.x
    }
    parts = parts.onto(problem.x, x, copies_of(parts.ops, replaced))
    between = [t for op in parts.ops for t in op.outputs if parts.is_batched(t)]
    found = passes.gradients(parts.of_each(), between)
    adjoints = dict(zip(map(tensor_key, between), found))
    return problem._replace(x=x, partition=parts, adjoints=adjoints)


def _size(tensor, parts, depth=4):
    """The magnitudes of the terms that `tensor` adds up: what it is as exact as."""
    op = tensor.op
    if declared(op).absolute:
        return tf.ones_like(tensor)
    is_sum = linearity(op) not in (NO, AFFINE) and len(op.outputs) == 1
    is_reference = any(t.dtype != t.dtype.base_dtype for t in op.inputs)
    if is_reference or not (is_sum and depth and parts.depends(tensor)):
        return tf.abs(tensor)
    # What a product magnifies of its factors is no rounding of its own.
    rest = depth - 1 if linearity(op) == YES else 0
    sizes = [_size(t, parts, rest) if t.dtype == tensor.dtype else t for t in op.inputs]
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
        # In one dtype, which holds the products of all.
        adjoint = tf.cast(self._adjoints[tensor_key(tensor)], tf.float64)
        values = tf.cast(values, tf.float64)
        # Zero times infinity is none here: what nothing weighs is no error.
        products = where(
            tf.equal(values, 0), tf.zeros_like(values), tf.abs(adjoint) * values
        )
        sums = tf.reduce_sum(products, others)  # [N T]
        return tf.reduce_sum(tf.reshape(sums, [-1, state.each]), 1)
