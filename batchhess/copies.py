"""A check that a copy has the values of what it copies, in this very run."""

import functools

from batchhess.analysis.audit import precision_in
from batchhess.calling import assert_that, caller, takes
from batchhess.compat import tf, where
from batchhess.graph.tensors import name_of, original
from batchhess.ops.table import PASSED, RESHAPED, YES, declared, linearity

# What two ways to round may differ by, relative to the largest magnitude of a tensor. A
# copy does the same arithmetic, at times in another order; a value that was fed, or
# that a variable had before, is elsewhere by far more.
_ROUNDING = {"float16": 3e-2, "bfloat16": 1e-1, "float32": 1e-4, "float64": 1e-10}

# The same relative to the largest x: what has cancelled out is no more precise than
# what it is computed from.
CANCELLED = {"float16": 8e-3, "bfloat16": 6e-2, "float32": 1e-6, "float64": 2e-15}


def assert_same(originals, copies, x, together=(), in_parts=False):
    """Builds a check that fails the run unless `copies` have the values of `originals`.

    They have not if the caller feeds a value into the middle of the model, or assigns
    a variable in the same run that both read, or if both draw random numbers.

    Args:
      originals: list of Tensors of the model, of any dtype.
      copies: list of Tensors, of which number i should equal number i of `originals`.
      x: the Tensor or Variable that the model is differentiated by, for errors.
      together: list of the Tensors that `x` was joined from, if any.
      in_parts: bool, whether another method builds less again, for errors.

    Returns:
      an Operation that fails with InvalidArgumentError, where NaN equals NaN and an
      infinity itself; None if all `copies` are `originals` themselves.
    """
    pairs = [(a, b) for a, b in zip(originals, copies) if a is not b]
    if not pairs:
        return None
    return _assert_same(pairs, x, together, in_parts, _magnitude(x))


def _assert_same(pairs, x, together, in_parts, size):
    precision = precision_in([a for a, _ in pairs], *(together or [x]))
    checks = [
        assert_that(_is_same(a, b, size, precision), _message(a, x, together, in_parts))
        for a, b in pairs
    ]
    return tf.group(*checks)


def assert_equal(originals, copies, x):
    """As `assert_same`, where all values are as good as always the same to the bit."""
    pairs = list(zip(originals, copies))
    exact = tf.reduce_all([_is_equal(a, b) for a, b in pairs])
    size = _magnitude(x)  # A reference that is fed can be read outside of a cond alone.

    def to_rounding():
        with tf.control_dependencies([_assert_same(pairs, x, (), False, size)]):
            return tf.constant(True)

    return tf.cond(exact, lambda: tf.constant(True), to_rounding)


def _is_equal(a, b):
    """Whether two Tensors of one shape are equal and finite: a bool Tensor []."""
    if a.dtype.base_dtype in (tf.float32, tf.float64):
        # A fifth of the time that comparing the elements takes.
        return tf.equal(tf.nn.l2_loss(a - b), 0)
    return tf.reduce_all(tf.equal(a, b))


def all_same(originals, copies, x, precision):
    """Whether each of `copies` equals its original, as for `assert_same`: a bool [].

    `precision` is the dtype of the least precise between x and them.
    """
    pairs, size = zip(originals, copies), _magnitude(x)
    return tf.reduce_all([_is_same(a, b, size, precision) for a, b in pairs])


def is_near(a, b, x, precision):
    """Where Tensors a and b, of one shape, are equal to rounding, as in `all_same`."""
    return _is_near(a, _magnitude(x), precision, a, b)


def not_the_same(problem):
    """The message where a `Problem`, built again block by block, is not `all_same`."""
    return _message(problem.partition.frontier[0], problem.x, (), True)


def _is_same(a, b, size, precision):
    """Whether two Tensors are equal to rounding, and in shape: a bool Tensor [].

    Args:
      a: Tensor.
      b: Tensor.
      size: Tensor [], the largest magnitude of x.
      precision: the dtype of the least precise between x and `a`.
    """
    if a.dtype.base_dtype.is_complex:
        parts = [
            _is_same(part(a), part(b), size, precision) for part in (tf.real, tf.imag)
        ]
        return tf.logical_and(*parts)
    # Tensors of other shapes are compared as far as they go, for the error to be ours.
    first = tf.minimum(tf.size(a), tf.size(b))
    vectors = [tf.reshape(t, [-1])[:first] for t in (a, b)]
    near = _is_near(a, size, precision, *vectors)
    # XLA of TensorFlow 1.15 crashes at `reduce_all` of many numbers of float64.
    return tf.logical_and(_fits(a, b), tf.reduce_min(tf.cast(near, tf.int32)) > 0)


def all_fit(originals, copies):
    """Whether each of `copies` has the shape of its original: a bool []."""
    return tf.reduce_all([_fits(a, b) for a, b in zip(originals, copies)])


def _fits(a, b):
    if a.shape.ndims is not None and a.shape.ndims == b.shape.ndims:
        return tf.reduce_all(tf.equal(tf.shape(a), tf.shape(b)))
    return tf.equal(tf.size(a), tf.size(b)) & tf.equal(tf.rank(a), tf.rank(b))


def _is_near(tensor, size, precision, a, b):
    """Where the vectors a, of the elements of `tensor`, and b are equal to rounding."""
    dtype = a.dtype.base_dtype
    if dtype.name not in _ROUNDING:
        return tf.equal(a, b)
    # The difference of equal infinities is a NaN, and near to nothing.
    allowed = _ROUNDING[precision.name] * _largest(tensor)
    allowed += CANCELLED[precision.name] * tf.cast(size, dtype)
    near = tf.abs(a - b) <= allowed
    missing = tf.logical_and(tf.is_nan(a), tf.is_nan(b))
    return tf.logical_or(tf.logical_or(near, missing), tf.equal(a, b))


def _largest(tensor, depth=4):
    """The largest finite magnitude of `tensor` and of the terms that it sums up."""
    op = tensor.op
    if declared(op).tangents in (PASSED, RESHAPED) and depth:
        source = op.inputs[0]
        is_reference = source.dtype.base_dtype != source.dtype
        return _magnitude(tensor) if is_reference else _largest(source, depth - 1)
    found = [_magnitude(tensor)]
    if linearity(op) == YES and depth:  # A sum may be less than what was rounded.
        terms = [t for t in op.inputs if t.dtype.base_dtype == tensor.dtype.base_dtype]
        found += [_largest(t, depth - 1) for t in terms]
    return functools.reduce(tf.maximum, found)


def _magnitude(tensor):
    tensor = tf.convert_to_tensor(tensor)
    finite = where(tf.is_finite(tensor), tf.abs(tensor), tf.zeros_like(tensor))
    return tf.maximum(tf.reduce_max(finite), 0)  # Of nothing it is -inf.


def _message(tensor, x, together, in_parts):
    method = "reverse" if caller() == "jacobians" else "columns"
    is_cure = in_parts and takes("method")
    other = "pass method={}, ".format(method) if is_cure else ""
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
        " and ".join(name_of(t) for t in together or [x]),
        other,
    )
