"""Checks that run with the graph: are observations coupled, are Hessians right?"""

import numpy as np

from batchhess.analysis.region import original
from batchhess.compat import tf
from batchhess.methods.differences import EPSILON, change_along

# What two runs of the same arithmetic may differ by, relative to their size.
_ROUNDING = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-5, "float64": 1e-12}

# Below this, what underflows on the way may be all of an answer.
_UNDERFLOW = {
    "float16": 2.0**-16,
    "bfloat16": 2.0**-100,
    "float32": 2.0**-100,
    "float64": 2.0**-990,
}

# Of a finite difference: its step, and what it may differ by, relative to its terms.
_STEP = {"float32": 5e-3, "float64": 9e-5}
_DIFFERENCE = {"float32": 3e-2, "float64": 1e-5}


def assert_uncoupled(passes, ys, gradient, x, layout, proof):
    """Builds a check that fails the run where a gradient sees another observation.

    Three reverse passes: one with the same seed u for every observation, two with
    s[n] u, where s[n] is plus or minus a random power of two. Scaling by it is exact,
    so where observations are separable the answers differ by the factor s[n] alone, to
    the last bit. Where they are coupled, row n differs by
    sum_m H[n, m] u (s[m] - s[n]): not zero even if the off-diagonal blocks sum to zero,
    and above rounding even if they are small.

    s[n] shrinks large answers and enlarges small ones, so it brings no observation
    nearer to where numbers overflow or underflow.

    Args:
      passes: the `Passes` to differentiate with.
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys`, of the shape of `x`.
      x: a Tensor or Variable.
      layout: the `Layout` of `x`.
      proof: the `State` that says which op is not proven separable.

    Returns:
      an Operation that fails with InvalidArgumentError. In each stretch of 1021
      observations (139 in float16) all pairs are told apart; a pair of two stretches
      but for a chance of 1 in 1021, drawn anew in each run.
    """
    rows = layout.rows(gradient)  # [N, K]
    dtype = rows.dtype
    # What 16 bits answer is compared in 32: TensorFlow 1.15 lacks kernels for less.
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    u = tf.cast(tf.random_uniform([layout.size], 0.5, 1.5), dtype)  # [K]

    def answer(scale):  # [N, 1] -> [N, K]
        seed = tf.zeros_like(rows) + tf.cast(scale, dtype) * u
        return tf.cast(layout.rows(passes.second(rows, x, seed)), wide)

    alike = answer(1.0)
    largest = tf.reduce_max(tf.abs(alike), axis=1, keepdims=True)  # [N, 1]
    tolerance = _ROUNDING[dtype.name] * largest + _UNDERFLOW[dtype.name]
    coupled = tf.zeros_like(alike, tf.bool)
    for powers in _draw_powers(layout.num_observations, dtype.name):
        powers = tf.cast(powers, wide)[:, None]
        s = tf.where(largest < 1, powers, 1 / powers)  # [N, 1]
        scaled = answer(s)
        apart = tf.abs(scaled / s - alike) > tolerance
        # A NaN is no coupling: it stands in the result for all to see. Nor does an Inf
        # tell of one, where the scaled seed has overflowed.
        coupled |= apart & tf.math.is_finite(scaled)
    count = tf.reduce_sum(tf.cast(tf.reduce_any(coupled, axis=1), tf.int32))
    message = (
        "{}: observations of {} are coupled in {}: {} ({}) {}. The Hessian of one "
        "would hold terms of others. Pass method=observations for the exact diagonal "
        "blocks, or check=never to let it pass. Observations affected, of all:"
    ).format(
        passes.caller,
        x.name,
        original(ys[0].op).name,
        original(proof.op).name,
        proof.op.type,
        proof.reason,
    )
    return tf.debugging.Assert(
        tf.equal(count, 0), [message, count, layout.num_observations]
    )


def assert_differences(passes, ys, gradient, x, layout, along, one_coordinate):
    """Builds a check that fails the run where H[n] v[n] is not the gradient's change.

    Args:
      passes: the `Passes`, for errors.
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys`, of the shape of `x`.
      x: a Tensor, float32 or float64.
      layout: the `Layout` of `x`.
      along: function from v, [N, K], to the terms whose sum over the last axis is
        H[n] v[n]: a Tensor [N, K, terms].
      one_coordinate: bool, whether v is to be zero but for one coordinate, of which
        alone H[n] v[n] is known.

    Returns:
      an Operation that fails with InvalidArgumentError and names the worst observation.

    Raises:
      ValueError: x has 16 bits only.
      SecondDerivativeError: the model cannot be built again on a moved x.
    """
    dtype = gradient.dtype.base_dtype
    if dtype.name not in _STEP:
        raise ValueError(
            "{}: check='always' needs float32 or float64, and '{}' is {}.".format(
                passes.caller, x.name, dtype.name
            )
        )
    step, rows = _STEP[dtype.name], layout.rows(gradient)
    v = tf.random_uniform(tf.shape(rows), 0.5, 1.5, dtype)  # [N, K]
    v *= tf.sign(tf.random_uniform(tf.shape(rows), -1, 1, dtype))
    known = tf.ones_like(v)
    if one_coordinate:
        k = tf.random_uniform([], 0, tf.maximum(layout.size, 1), tf.int32)
        known *= tf.cast(tf.equal(tf.range(layout.size), k), dtype)
        v *= known
    change = known * change_along(step * v, gradient, x, layout, passes) / step
    terms = along(v)
    product = tf.reduce_sum(terms, axis=2)

    scale = tf.maximum(tf.reduce_sum(tf.abs(terms), axis=2), tf.abs(change))
    scale = tf.reduce_max(scale, axis=1)  # [N]
    noise = 10 * dtype.as_numpy_dtype(EPSILON[dtype.name]) / step
    noise *= tf.reduce_max(tf.abs(rows))
    excess = tf.reduce_max(tf.abs(product - change), axis=1) - noise
    excess -= _DIFFERENCE[dtype.name] * scale
    message = (
        "{}: the Hessian of {} with respect to {} is not what differences of the "
        "gradient say: TensorFlow differentiates a part of it wrongly, or observations "
        "are coupled. batchhess.explain may name the op. The worst observation:"
    ).format(passes.caller, ys[0].name, x.name)
    # A NaN is no error here: it stands in the result for all to see.
    right = tf.logical_not(tf.reduce_any(excess > 0))
    # With one more, there is a largest where N = 0 too.
    worst = tf.argmax(tf.concat([excess, [dtype.as_numpy_dtype("-inf")]], 0))
    return tf.debugging.Assert(right, [message, worst])


def _draw_powers(count, dtype_name):
    """Two draws of plus or minus a power of two for each of `count` observations.

    Args:
      count: int or scalar int32 Tensor, N.
      dtype_name: str.

    Returns:
      list of two float64 Tensors [N]. Together they are another pair for each
      observation of a stretch.
    """
    exponents, stretch = powers_for(dtype_name)
    stride = tf.random_uniform([], 1, stretch, tf.int32)
    shifts = tf.random_uniform([count // stretch + 1], 0, stretch, tf.int32)
    n = tf.range(count)
    labels = label(n, stretch, stride, tf.gather(shifts, n // stretch))
    table = tf.constant(signed_powers(exponents))
    return [tf.gather(table, place) for place in places(labels, 2 * exponents)]


def powers_for(dtype_name):
    """How many powers of two scale a seed, and how long a stretch is.

    That is the largest prime below the number of pairs of signed powers.
    """
    return (6, 139) if dtype_name == "float16" else (16, 1021)  # It has less room.


def label(n, stretch, stride, shift):
    """What tells observation n from others: `stretch` is prime, so from all of its own.

    Args:
      n: array or Tensor of integers.
      stretch: int, how many labels there are.
      stride: at random from 1 to `stretch` - 1, the same for all n.
      shift: at random from 0 to `stretch` - 1, the same for all n of a stretch.
    """
    return (n % stretch * stride + shift) % stretch


def places(labels, base):
    """`labels` as two digits of `base`."""
    return [labels % base, labels // base]


def signed_powers(exponents):
    """2 ** e and -2 ** e for e < `exponents`, as float64 array."""
    powers = 2.0 ** np.arange(exponents)
    return np.concatenate([powers, -powers])
