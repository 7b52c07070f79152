"""Whether a model that is built again has its values, but for how it rounds.

A copy works on a block of observations, and may round in another way: each observation
by about its own magnitudes. Where that does not tell, it is followed to first order: an
error in an input u of an op moves what follows by its product with the adjoint of u,
however small what follows is: of log(1 - p), 1 - p is as exact as 1, and not as what is
left of it. (Higham 2002, Accuracy and Stability of Numerical Algorithms, sections 1.6
and 3.3.)
"""

import functools

from batchhess.analysis.partition import ELEMENTS, GENERAL
from batchhess.compat import tf, where
from batchhess.copies import (
    CANCELLED,
    as_wide,
    fit,
    is_near_everywhere,
    largest_of_each,
    near,
    of_each,
    terms_of_each,
)
from batchhess.graph.tensors import tensor_key
from batchhess.methods.tangents import added
from batchhess.ops.table import AFFINE, NO, SUBTRACTED, YES, declared, linearity
from batchhess.rebuild import copies_of, copy_op


def are_same(originals, alike, problem, passes, precision):
    """Whether what is built again has the values of the model, to rounding.

    Each observation is judged by its own magnitudes, and where they do not tell, by its
    adjoints: a large one hides nothing in another.

    Args:
      originals: list of Tensors, for those `of_each` observation in the partition.
      alike: list of bool, whether those are of the ops of the originals.
      problem: a `Problem` with a partition.
      passes: the `Passes`.
      precision: the dtype of the least precise between x and them.

    Returns:
      a bool Tensor [].
    """
    parts, x = problem.partition, problem.x

    def states_of(op):
        inputs = zip(op.inputs, parts.alignments.get(op, []))
        return [parts.state(t) if parts.depends(t) else known for t, known in inputs]

    size = largest_of_each([(x, parts.state(x))])  # [N]
    flags, fits, close = [], [], []
    for a, b, is_alike in zip(originals, parts.of_each(), alike):
        state = parts.state(b)
        terms = terms_of_each(b, state, states_of) if is_alike else [(a, state)]
        largest = largest_of_each(terms)
        here = [as_wide(each, b, state) for each in (largest, size)]
        close.append(near(a, b, *here, precision))
        fits.append(fit(a, b))
        flags.append(is_near_everywhere(a, b, close[-1]))
    same, fits = (functools.reduce(tf.logical_and, each) for each in (flags, fits))
    return tf.cond(
        same | ~fits,
        lambda: same,
        lambda: _is_rounding(originals, close, problem, passes, precision),
    )


def _is_rounding(originals, near, problem, passes, precision):
    """Whether values differ, in each observation, by no more than rounding may do.

    Args:
      originals: list of Tensors, of the shapes of those `of_each` observation.
      near: list of bool Tensors, where the elements are near anyway, as vectors.
      problem: as for `are_same`, and so the others.
    """
    copies = problem.partition.of_each()
    apart = list(map(_apart, originals, copies, near))
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


def _apart(a, b, near):
    """|a - b| where that is more than the rounding of what is not magnified; else 0."""
    near = tf.reshape(near, tf.shape(b))
    return where(near, tf.zeros_like(b), tf.abs(a - b))


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
        # In one dtype, which holds the products of all.
        adjoint = tf.cast(self._adjoints[tensor_key(tensor)], tf.float64)
        values = tf.cast(values, tf.float64)
        # Zero times infinity is none here: what nothing weighs is no error.
        products = where(
            tf.equal(values, 0), tf.zeros_like(values), tf.abs(adjoint) * values
        )
        state = self._parts.state(tensor)
        return of_each(tf.reduce_sum, products, tensor, state)
