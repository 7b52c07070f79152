"""A check that a copy has the values of what it copies, in this very run."""

import functools

from batchhess.analysis.audit import precision_in
from batchhess.calling import assert_that, caller, takes
from batchhess.compat import source_tensor, tf, where
from batchhess.graph.tensors import name_of, original
from batchhess.ops.table import (
    PASSED,
    RESHAPED,
    YES,
    declared,
    is_of_flow,
    linearity,
)

# What two ways to round may differ by, relative to the largest magnitude of a tensor. A
# copy does the same arithmetic, at times in another order; a value that was fed, or
# that a variable had before, is elsewhere by far more.
ROUNDING = {"float16": 3e-2, "bfloat16": 1e-1, "float32": 1e-4, "float64": 1e-10}

# The same relative to the largest x: what has cancelled out is no more precise than
# what it is computed from.
CANCELLED = {"float16": 8e-3, "bfloat16": 6e-2, "float32": 1e-6, "float64": 2e-15}


def assert_same(originals, copies, x, in_parts=False, walk=None):
    """Builds a check that fails the run unless `copies` have the values of `originals`.

    They have not if the caller feeds a value into the middle of the model, or assigns
    a variable in the same run that both read, or if both draw random numbers.

    Args:
      originals: list of Tensors of the model, of any dtype.
      copies: list of Tensors, of which number i should equal number i of `originals`.
      x: the Tensor or Variable that the model is differentiated by, for errors.
      in_parts: bool, whether another method builds less again, for errors.
      walk: the `Walk` from x to `copies`, if none of them is a sum over observations:
        each of these is then judged by its own magnitudes.

    Returns:
      an Operation that fails with InvalidArgumentError, where NaN equals NaN and an
      infinity itself; None if all `copies` are `originals` themselves.
    """
    pairs = [(a, b) for a, b in zip(originals, copies) if a is not b]
    if not pairs:
        return None
    return _assert_same(pairs, x, in_parts, _magnitude(x), walk)


def _assert_same(pairs, x, in_parts, size, walk=None):
    precision = precision_in([b for _, b in pairs], x)
    checks = []
    for a, b in pairs:
        if walk is None or walk.state(b).each is None:
            same = _is_same(a, b, size, precision)
        else:
            same = _is_same_in_each(a, b, x, walk, precision)
        checks.append(assert_that(same, _message(a, x, in_parts)))
    return tf.group(*checks)


def _is_same_in_each(a, b, x, walk, precision):
    """The same, where each observation is judged by its own magnitudes."""
    largest = [_largest(t, walk.state(t)) for t in _terms(b)]
    of_x = _largest(tf.convert_to_tensor(x), walk.state(source_tensor(x)))
    sizes = functools.reduce(tf.maximum, largest), of_x
    largest, size = (_as_wide(each, b, walk.state(b)) for each in sizes)
    if b.dtype.base_dtype.real_dtype.name in ROUNDING and is_of_flow(a.op):
        # The same arithmetic: a large element allows a small one no more than rounding.
        largest, size = _magnitudes(b), tf.cast(size, largest.dtype) + largest
    near = _near(a, b, largest, size, precision)
    if b.dtype.base_dtype.real_dtype.name in ROUNDING:
        # Of numbers that are none, ops of their own make more or fewer of the others.
        broken = [_largest(_is_missing(t), walk.state(b)) for t in (a, b)]
        both = _as_wide(tf.minimum(*broken), b, walk.state(b))
        near |= tf.reshape(both, [-1])[: tf.size(near)] > 0
    return _is_near_everywhere(a, b, near)


def _is_missing(tensor):
    """1 where `tensor` is NaN, else 0."""
    return tf.cast(tf.is_nan(tf.abs(tensor)), tf.float32)


def _is_same(a, b, size, precision):
    """Whether two Tensors are equal to rounding, and in shape: a bool Tensor []."""
    largest = None
    if a.dtype.base_dtype.real_dtype.name in ROUNDING:
        largest = functools.reduce(tf.maximum, map(_magnitude, _terms(a)))
    return _is_near_everywhere(a, b, _near(a, b, largest, size, precision))


def _near(a, b, largest, size, precision):
    """Where Tensors a and b, as vectors of the shorter one's length, are equal.

    Args:
      a: Tensor.
      b: Tensor.
      largest: Tensor [], or of the shape of b: the magnitude of what was summed up; not
        needed of integers.
      size: Tensor [], or of the shape of b: that of x.
      precision: the dtype of the least precise between x and `a`.

    Returns:
      a bool Tensor: whether they are equal to rounding, both NaN, or the same infinity.
    """
    # Tensors of other shapes are compared as far as they go, for the error to be ours.
    first = tf.minimum(tf.size(a), tf.size(b))

    def vector(tensor):
        return tf.reshape(tensor, [-1])[:first]

    dtype, parts = a.dtype.base_dtype.real_dtype, (vector(a), vector(b))
    same = tf.equal(*parts)
    if dtype.name not in ROUNDING:
        return same
    allowed = ROUNDING[precision.name] * largest
    allowed += CANCELLED[precision.name] * tf.cast(size, dtype)
    allowed = vector(allowed) if allowed.shape.ndims else allowed
    missing = tf.logical_and(*(tf.is_nan(tf.abs(part)) for part in parts))
    # The difference of equal infinities is a NaN, and near to nothing.
    return same | missing | (tf.abs(parts[0] - parts[1]) <= allowed)


def _is_near_everywhere(a, b, near):
    """Whether Tensors a and b, which are equal where `near` says, are so: a bool []."""
    # XLA of TensorFlow 1.15 crashes at `reduce_all` of many numbers of float64.
    return _fit(a, b) & (tf.reduce_min(tf.cast(near, tf.int32)) > 0)


def _fit(a, b):
    """Whether two Tensors have one shape: a bool Tensor []."""
    if a.shape.ndims is not None and a.shape.ndims == b.shape.ndims:
        return tf.reduce_all(tf.equal(tf.shape(a), tf.shape(b)))
    return tf.equal(tf.size(a), tf.size(b)) & tf.equal(tf.rank(a), tf.rank(b))


def _terms(tensor, depth=4):
    """`tensor` and what it sums up: it may be less than what was rounded."""
    op = tensor.op
    if declared(op).tangents in (PASSED, RESHAPED) and depth:
        source = op.inputs[0]
        is_reference = source.dtype.base_dtype != source.dtype
        return [tensor] if is_reference else _terms(source, depth - 1)
    found = [tensor]
    if linearity(op) == YES and depth:
        terms = [t for t in op.inputs if t.dtype.base_dtype == tensor.dtype.base_dtype]
        found += [each for t in terms for each in _terms(t, depth - 1)]
    return found


def _largest(tensor, state):
    """The largest magnitude in each observation of `tensor`, [N]; in all of it, []."""
    if not state.each:
        return _magnitude(tensor)
    others = [a for a in range(tensor.shape.ndims) if a != state.axis]
    found = tf.reduce_max(_magnitudes(tensor), others)  # [N T]
    found = tf.reduce_max(tf.reshape(found, [-1, state.each]), 1)
    return tf.maximum(found, 0)  # Of nothing it is -inf.


def _as_wide(values, tensor, state):
    """`values` [N], or [], each along what its observation has in `tensor`."""
    if not values.shape.ndims:
        return values
    if state.each > 1:
        values = tf.reshape(tf.tile(values[:, None], [1, state.each]), [-1])
    shape = [-1 if a == state.axis else 1 for a in range(tensor.shape.ndims)]
    return tf.broadcast_to(tf.reshape(values, shape), tf.shape(tensor))


def _magnitudes(tensor):
    """The magnitudes of the elements of a Tensor that are finite; 0 of others."""
    sizes = tf.abs(tensor)
    return where(tf.is_finite(sizes), sizes, tf.zeros_like(sizes))


def _magnitude(tensor):
    """The largest of them."""
    found = tf.reduce_max(_magnitudes(tf.convert_to_tensor(tensor)))
    return tf.maximum(found, 0)  # Of nothing it is -inf.


def other_method(in_parts):
    """What errors advise, to a comma: the method that builds less again; or nothing."""
    method = "reverse" if caller() == "jacobians" else "columns"
    return "pass method={}, ".format(method) if in_parts and takes("method") else ""


def _message(tensor, x, in_parts):
    return (
        "a part of the model was built again, to be differentiated twice or on a "
        "block of observations, and in this run it has not the values of the original "
        "at {} ({}). Perhaps an inner tensor of the model was fed. Feed {} and what "
        "the model reads from outside only, {}or differentiate by the "
        "tensor that is fed. Or a variable was assigned in the same run: run the "
        "training step in a Session.run of its own. Or something is drawn at random in "
        "both: draw it outside of the loop or function, and feed it."
    ).format(
        original(tensor.op).name,
        tensor.op.type,
        name_of(x),
        other_method(in_parts),
    )
