"""Checks that run with the graph: are observations coupled, are Hessians right?"""

from batchhess.compat import tf
from batchhess.graph.tensors import original
from batchhess.methods.differences import change_along

# What two runs of the same arithmetic may differ by, relative to their size.
_ROUNDING = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-5, "float64": 1e-12}

# Powers of two from 2^-30 to 2^30 scale a seed without rounding; float16 has less room.
_EXPONENTS = {"float16": 7}

# The precision in which a gradient of this dtype is worked out.
EPSILON = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1.2e-7, "float64": 2.3e-16}

# Of a finite difference: its step, and what it may differ by, relative to its terms.
_STEP = {"float32": 5e-3, "float64": 9e-5}
_DIFFERENCE = {"float32": 3e-2, "float64": 1e-5}


def assert_uncoupled(passes, ys, gradient, x, layout, proof):
    """Builds a check that fails the run where a gradient sees another observation.

    Two reverse passes: one with the same seed u for every observation, one with s[n] u,
    where s[n] is a random power of two. Scaling by it is exact, so where observations
    are separable the answers differ by the factor s[n] alone, to the last bit. Where
    they are coupled, row n differs by sum_m H[n, m] u (s[m] - s[n]): not zero even if
    the off-diagonal blocks sum to zero, and above rounding even if they are small.

    Args:
      passes: the `Passes` to differentiate with.
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys`, of the shape of `x`.
      x: a Tensor or Variable.
      layout: the `Layout` of `x`.
      proof: the `State` that says which op is not proven separable.

    Returns:
      an Operation that fails with InvalidArgumentError. In each stretch of 61
      observations (7 in float16) all pairs are told apart; a pair of two stretches with
      a chance of 60 in 61, drawn anew in each run.
    """
    rows = layout.rows(gradient)  # [N, K]
    dtype = rows.dtype
    u = tf.random_uniform([layout.size], 0.5, 1.5)  # [K]
    s = _powers_of_two(layout.num_observations, _EXPONENTS.get(dtype.name, 61))
    u, s = tf.cast(u, dtype), tf.cast(s, dtype)[:, None]
    alike = layout.rows(passes.second(rows, x, tf.zeros_like(rows) + u))
    scaled = layout.rows(passes.second(rows, x, tf.zeros_like(rows) + s * u))

    largest = tf.reduce_max(tf.abs(alike), axis=1, keepdims=True)
    # A NaN is no coupling: it stands in the result for all to see.
    coupled = tf.abs(scaled / s - alike) > _ROUNDING[dtype.name] * largest  # [N, K]
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


def _powers_of_two(count, exponents):
    """2 ** e[n] for n < `count`, e a random walk through `exponents` numbers around 0.

    Each stretch of `exponents` observations meets every exponent once.
    """
    n = tf.range(count)
    stretch = n // exponents
    stride = tf.random_uniform([], 1, exponents, tf.int32)  # exponents is prime.
    shifts = tf.random_uniform([count // exponents + 1], 0, exponents, tf.int32)
    e = (n * stride + tf.gather(shifts, stretch)) % exponents - exponents // 2
    return tf.pow(tf.constant(2.0, tf.float64), tf.cast(e, tf.float64))
